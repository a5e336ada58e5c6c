// Elements made by hand. Strings only ever become text: nothing here reads markup, so nothing that
// a document says can become an element or a script.

export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

export function add(parent, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    parent.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function fill(parent, ...children) {
  parent.replaceChildren();
  add(parent, children);
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  add(element, children);
  return element;
}

let fading;

export function notice(text) {
  const place = document.getElementById("notice");
  place.textContent = text;
  clearTimeout(fading);
  // It is for those who listen; those who see have the page itself.
  if (text) fading = setTimeout(() => { place.textContent = ""; }, 6000);
}

// Tabs after the pattern that screen readers know: arrows move, one tab stop for all.
export function tabs(name, panels) {
  const list = el("div", { role: "tablist", "aria-label": name, class: "tabs" });
  const holder = el("div", { class: "panels" });
  const all = panels.map(({ id, title, panel }) => {
    const tab = el("button", {
      type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}`,
    }, title);
    const box = el("section", {
      role: "tabpanel", id: `panel-${id}`, "aria-labelledby": `tab-${id}`, tabindex: "0",
    }, panel);
    list.append(tab);
    holder.append(box);
    return { id, tab, box };
  });
  const choose = (chosen, focus) => {
    for (const { id, tab, box } of all) {
      const is = id === chosen;
      tab.setAttribute("aria-selected", String(is));
      tab.tabIndex = is ? 0 : -1;
      box.hidden = !is;
      if (is && focus) tab.focus();
    }
  };
  all.forEach(({ id, tab }, place) => {
    tab.addEventListener("click", () => choose(id, false));
    tab.addEventListener("keydown", (event) => {
      const last = all.length - 1;
      const to = {
        ArrowRight: place === last ? 0 : place + 1,
        ArrowLeft: place === 0 ? last : place - 1,
        Home: 0,
        End: last,
      }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      choose(all[to].id, true);
    });
  });
  choose(panels[0].id, false);
  return { element: el("div", { class: "tabbed" }, list, holder), choose };
}
