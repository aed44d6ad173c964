// A table that is wider than the page scrolls sideways, by the keyboard too (WCAG 2.1.1).
function reach() {
  for (const region of document.querySelectorAll(".md-typeset__scrollwrap")) {
    const said = { tabindex: "0", role: "group", "aria-label": "A table that is wider than the page" };
    for (const [name, value] of Object.entries(said)) {
      if (region.scrollWidth > region.clientWidth) region.setAttribute(name, value);
      else region.removeAttribute(name);
    }
  }
}
document$.subscribe(() => requestAnimationFrame(reach));
window.addEventListener("resize", reach);
