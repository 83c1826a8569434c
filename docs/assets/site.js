// What is wider than its place, such as a table or a formula on a telephone, scrolls by itself, and can be reached
// by keyboard. Measured anew at each change of width: a telephone is turned.
const scrolling = () => {
  const all = [...document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset .arithmatex")];
  all.forEach((each) => each.classList.remove("wide"));
  const wide = all.map((each) => each.matches("span")
    ? each.getBoundingClientRect().width > each.closest("p, li, td, th, dd, div, summary").clientWidth
    : each.scrollWidth > each.clientWidth);
  all.forEach((each, n) => {
    each.classList.toggle("wide", wide[n]);
    wide[n] ? each.setAttribute("tabindex", 0) : each.removeAttribute("tabindex");
  });
};
addEventListener("load", () => MathJax.startup.promise.then(scrolling));
addEventListener("resize", scrolling);
