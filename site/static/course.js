// What is wider than its box can be scrolled by keyboard too, and says so.
function reachable() {
  for (const box of document.querySelectorAll("article pre, article .table-wrapper, article div.math, article div.output")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
addEventListener("load", reachable);
addEventListener("resize", reachable);

// From a disk, a browser lets no page read another, so the search shows titles without extracts.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
