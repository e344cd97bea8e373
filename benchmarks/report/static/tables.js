// Tables that sort, marks against a chosen row, and the metric shown in the plots.
(function () {
  "use strict";

  // -- sorting: headings become buttons; cells without a number stay last in both directions.

  function valueOf(cell) {
    if (!cell) return null;
    var raw = cell.getAttribute("data-sort");
    if (raw === null) {
      var text = cell.querySelector(".vh") ? "" : cell.textContent.trim();
      return cell.tagName === "TH" || !text ? text || null : text;
    }
    if (raw === "inf") return Infinity;
    if (raw === "-inf") return -Infinity;
    return Number(raw);
  }

  function compare(a, b) {
    if (typeof a === "number" && typeof b === "number") return a < b ? -1 : a > b ? 1 : 0;
    var options = { numeric: true, sensitivity: "base" };
    return String(a).localeCompare(String(b), undefined, options);
  }

  function sortBy(table, index, direction) {
    var body = table.tBodies[0];
    var rows = Array.prototype.map.call(body.rows, function (row, at) {
      return { row: row, value: valueOf(row.cells[index]), at: at };
    });
    rows.sort(function (a, b) {
      if (a.value === null || b.value === null) {
        if (a.value === b.value) return a.at - b.at;
        return a.value === null ? 1 : -1;
      }
      return direction * compare(a.value, b.value) || a.at - b.at;
    });
    rows.forEach(function (item) {
      body.appendChild(item.row);
    });
  }

  function makeSortable(table) {
    var heads = table.tHead.rows[0].cells;
    Array.prototype.forEach.call(heads, function (head, index) {
      var button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      while (head.firstChild) button.appendChild(head.firstChild);
      head.appendChild(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", function () {
        var now = head.getAttribute("aria-sort");
        // A metric's first click puts its best value on top, a name's the first letter.
        var first = head.getAttribute("data-better") === "↑" ? "descending" : "ascending";
        var other = first === "ascending" ? "descending" : "ascending";
        var next = now === first ? other : first;
        Array.prototype.forEach.call(heads, function (each) {
          each.setAttribute("aria-sort", "none");
        });
        head.setAttribute("aria-sort", next);
        sortBy(table, index, next === "ascending" ? 1 : -1);
      });
    });
  }

  // -- marks: each row against the best of the column, or against the row the reader picks.

  var WORDS = {
    "1": ["up", "▲ better"],
    "-1": ["down", "▼ worse"],
    "0": ["tied", "≈"],
  };

  function connect(control) {
    var id = control.getAttribute("data-compare");
    var table = document.getElementById(id + "-table");
    var data = JSON.parse(document.getElementById(id + "-comparisons").textContent);
    var select = control.querySelector("select");
    var cells = Array.prototype.slice.call(table.querySelectorAll("td[data-sort]"));
    var first = cells.map(function (cell) {
      return { css: cell.className, mark: cell.querySelector(".mark") };
    });
    var original = first.map(function (item) {
      return item.mark ? { css: item.mark.className, text: item.mark.textContent } : null;
    });
    control.hidden = false;
    select.addEventListener("change", function () {
      var reference = select.value;
      cells.forEach(function (cell, index) {
        var mark = first[index].mark;
        if (!mark) return;
        var row = cell.parentNode.getAttribute("data-row");
        cell.parentNode.classList.toggle("reference", row === reference);
        if (!reference) {
          cell.className = first[index].css;
          mark.className = original[index].css;
          mark.textContent = original[index].text;
          return;
        }
        cell.className = first[index].css.replace(/ is-\w+/, "");
        var verdict = ((data[reference] || {})[row] || {})[cell.getAttribute("data-key")];
        var words = verdict === undefined ? ["", ""] : WORDS[String(verdict)];
        mark.className = "mark " + words[0];
        mark.textContent = words[1];
        if (verdict === 0) mark.title = "no significant difference";
        else mark.removeAttribute("title");
      });
    });
  }

  // -- plots: one metric at a time; without this script all are shown.

  function connectSwitch(group) {
    var panels = document.querySelectorAll('[data-panel="' + group.getAttribute("data-switch") + '"]');
    var buttons = group.querySelectorAll("button");
    function choose(metric) {
      Array.prototype.forEach.call(buttons, function (button) {
        button.setAttribute("aria-pressed", String(button.getAttribute("data-metric") === metric));
      });
      Array.prototype.forEach.call(panels, function (panel) {
        panel.hidden = panel.getAttribute("data-metric") !== metric;
      });
    }
    Array.prototype.forEach.call(buttons, function (button) {
      button.addEventListener("click", function () {
        choose(button.getAttribute("data-metric"));
      });
    });
    group.hidden = false;
    choose(buttons[0].getAttribute("data-metric"));
  }

  Array.prototype.forEach.call(document.querySelectorAll("table[data-sortable]"), makeSortable);
  Array.prototype.forEach.call(document.querySelectorAll("[data-compare]"), connect);
  Array.prototype.forEach.call(document.querySelectorAll("[data-switch]"), connectSwitch);
})();
