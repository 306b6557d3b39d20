"use strict";
// Pictures can be read without this; with it they open large, by mouse or keyboard.
(() => {
  const panels = [...document.querySelectorAll(".picture")];
  if (!panels.length || !window.HTMLDialogElement) return;
  const create = (tag, attributes, ...children) => {
    const element = Object.assign(document.createElement(tag), attributes);
    element.append(...children);
    return element;
  };
  const image = create("img", { alt: "" });
  const label = create("p", { id: "enlarged-label" });
  label.setAttribute("aria-live", "polite");
  const previous = create("button", { type: "button", textContent: "← Previous" });
  const next = create("button", { type: "button", textContent: "Next →" });
  const close = create("button", { type: "button", textContent: "Close" });
  const bar = create("div", { className: "bar" }, previous, next, close);
  const dialog = create("dialog", { className: "enlarged" }, label, image, bar);
  dialog.setAttribute("aria-labelledby", label.id);
  document.body.append(dialog);
  let shown = 0;
  const show = (index) => {
    shown = (index + panels.length) % panels.length;
    const source = panels[shown].querySelector("img");
    image.src = source.src;
    image.alt = source.alt;
    label.textContent = source.alt;
  };
  panels.forEach((panel, index) => {
    const source = panel.querySelector("img");
    const button = create("button", { type: "button", className: "enlarge" });
    button.setAttribute("aria-label", `Enlarge ${source.alt}`);
    source.replaceWith(button);
    button.append(source);
    button.addEventListener("click", () => {
      show(index);
      dialog.showModal();
    });
  });
  previous.addEventListener("click", () => show(shown - 1));
  next.addEventListener("click", () => show(shown + 1));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(shown - 1);
    if (event.key === "ArrowRight") show(shown + 1);
  });
})();
