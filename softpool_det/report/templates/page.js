"use strict";
// Pictures can be read without this; with it they are filtered and open large, by mouse or keyboard.
(() => {
  const panels = [...document.querySelectorAll(".picture")];
  const nameOf = (panel) => {
    const heading = panel.closest("article").querySelector("h3").textContent;
    return `${heading}: ${panel.querySelector("figcaption").textContent}`;
  };
  const setName = (panel) => {
    panel.querySelector(".enlarge")?.setAttribute("aria-label", `Enlarge ${nameOf(panel)}`);
  };

  const filters = document.querySelector(".filters");
  if (filters) {
    const sliders = [...filters.querySelectorAll("input")];
    const classes = filters.querySelector("select");
    const texts = sliders.map((slider) => slider.getAttribute("aria-valuetext"));
    const scoreOf = (place) => {
      const { value, defaultValue } = sliders[place];
      return value === defaultValue ? texts[place] : (value / 100).toFixed(2);
    };
    const draw = (panel, place) => {
      const paths = [...panel.querySelectorAll("path")];
      const labels = panel.querySelectorAll(".drawing > span");
      // The ground truth, which has no slider, comes first.
      const least = place < 0 ? 0 : Number(sliders[place].value);
      const isShown = ({ dataset }) =>
        dataset.last >= least && (!classes.value || dataset.class === classes.value);
      const shown = paths.filter(isShown);
      const labelled = shown.length <= filters.dataset.maxLabels;
      paths.forEach((path, index) => {
        path.toggleAttribute("hidden", !isShown(path));
        labels[index].hidden = !isShown(path) || !labelled;
      });
      if (place < 0) return;
      const wrong = shown.filter((path) => path.classList.contains("wrong")).length;
      const kind = classes.value ? ` (${classes.selectedOptions[0].textContent})` : "";
      const words = [shown.length - wrong, wrong, scoreOf(place), kind];
      panel.querySelectorAll("figcaption b").forEach((each, index) => {
        each.textContent = words[index];
      });
      setName(panel);
    };
    const rows = document.querySelectorAll("#gallery .panels");
    const drawArm = (place) => {
      if (place >= 0) {
        sliders[place].setAttribute("aria-valuetext", scoreOf(place));
        sliders[place].closest("label").querySelector("b").textContent = scoreOf(place);
      }
      for (const row of rows) draw(row.children[place + 1], place);
    };
    const drawAll = () => {
      for (let place = -1; place < sliders.length; place++) drawArm(place);
    };
    filters.addEventListener("input", ({ target }) => {
      if (target === classes) drawAll();
      else drawArm(sliders.indexOf(target));
    });
    filters.querySelector("button").addEventListener("click", () => {
      for (const slider of sliders) slider.value = slider.defaultValue;
      classes.value = "";
      drawAll();
    });
    filters.hidden = false;
  }

  if (!panels.length || !window.HTMLDialogElement) return;
  const create = (tag, attributes, ...children) => {
    const element = Object.assign(document.createElement(tag), attributes);
    element.append(...children);
    return element;
  };
  const view = create("div", { className: "view" });
  const label = create("p", { id: "enlarged-label" });
  label.setAttribute("aria-live", "polite");
  const previous = create("button", { type: "button", textContent: "← Previous" });
  const next = create("button", { type: "button", textContent: "Next →" });
  const close = create("button", { type: "button", textContent: "Close" });
  const bar = create("div", { className: "bar" }, previous, next, close);
  const dialog = create("dialog", { className: "enlarged" }, label, view, bar);
  dialog.setAttribute("aria-labelledby", label.id);
  document.body.append(dialog);
  let shown = 0;
  const show = (index) => {
    shown = (index + panels.length) % panels.length;
    const picture = panels[shown].querySelector(".drawing, img").cloneNode(true);
    label.textContent = nameOf(panels[shown]);
    picture.setAttribute(picture.alt === undefined ? "aria-label" : "alt", label.textContent);
    view.replaceChildren(picture);
  };
  panels.forEach((panel, index) => {
    const source = panel.querySelector(".drawing, img");
    const button = create("button", { type: "button", className: "enlarge" });
    source.replaceWith(button);
    button.append(source);
    button.addEventListener("click", () => {
      show(index);
      dialog.showModal();
    });
  });
  panels.forEach(setName);
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
