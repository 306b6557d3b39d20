"""The report's charts as inline SVG: matplotlib draws them, the page's style sheet colours them."""
