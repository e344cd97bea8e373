// The theme is the system's unless the reader chose another; set before the page is drawn.
(function () {
  "use strict";
  var KEY = "m2l-theme";
  var CHOICES = ["auto", "light", "dark"];
  function stored() {
    try {
      var found = window.localStorage.getItem(KEY);
      return CHOICES.indexOf(found) >= 0 ? found : "auto";
    } catch (error) {
      return "auto"; // storage is closed to some pages opened from disk
    }
  }
  function apply(choice) {
    if (choice === "auto") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.setAttribute("data-theme", choice);
  }
  var current = stored();
  apply(current);
  document.addEventListener("DOMContentLoaded", function () {
    var button = document.querySelector("[data-theme-button]");
    if (!button) return;
    function show() {
      button.textContent = "Theme: " + current;
    }
    button.hidden = false;
    show();
    button.addEventListener("click", function () {
      current = CHOICES[(CHOICES.indexOf(current) + 1) % CHOICES.length];
      try {
        window.localStorage.setItem(KEY, current);
      } catch (error) {
        // The choice then holds for this page only.
      }
      apply(current);
      show();
    });
  });
})();
