// What is wider than a telephone, such as a table or a formula, scrolls by itself, and can be reached by keyboard.
const scrolling = () => {
  for (const each of document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset .arithmatex")) {
    const inline = each.matches("span");
    const space = inline ? each.parentElement.clientWidth : each.clientWidth;
    const width = inline ? each.getBoundingClientRect().width : each.scrollWidth;
    if (width > space) {
      each.tabIndex = 0;
      each.classList.add("wide");
    }
  }
};
addEventListener("load", () => MathJax.startup.promise.then(scrolling));
addEventListener("resize", scrolling);
