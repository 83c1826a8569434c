// What is wider than its place, such as a table, a formula or a picture on a telephone, scrolls by itself, can be
// reached by keyboard, and fades where it goes on. Measured anew at each change of width: a telephone is turned.
const more = (each) => each.classList.toggle("more", each.scrollLeft + each.clientWidth < each.scrollWidth - 8);
const room = (around) => around.clientWidth || room(around.parentElement);  // what is inline says that it has none
const scrolling = () => {
  for (const cell of document.querySelectorAll(".md-typeset__scrollwrap td")) {
    cell.classList.toggle("long", cell.textContent.length > 40);
  }
  const all = [...document.querySelectorAll(
    ".md-typeset__scrollwrap, .md-typeset .arithmatex, .md-typeset p:has(> img), .live .scroll")];
  all.forEach((each) => each.classList.remove("wide", "more"));
  const wide = all.map((each) => each.matches("span")
    ? each.getBoundingClientRect().width > room(each.parentElement)
    : each.scrollWidth > each.clientWidth);
  all.forEach((each, n) => {
    each.classList.toggle("wide", wide[n]);
    wide[n] ? each.setAttribute("tabindex", 0) : each.removeAttribute("tabindex");
  });
  all.filter((_, n) => wide[n]).forEach(more);
};
addEventListener("load", () => MathJax.startup.promise.then(scrolling));
addEventListener("resize", scrolling);
document.addEventListener("toggle", scrolling, true);  // what was folded had no width
document.addEventListener("scroll", ({ target }) => target.matches?.(".wide") && more(target), true);
