"""The pictures of docs/assets/, each a function without arguments that draws one."""
