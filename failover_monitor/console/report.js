"use strict";
// Adds a search to the list of events; everything else works without a script.
(() => {
  const filter = document.querySelector(".filter");
  if (!filter) return;
  const rows = [...document.querySelectorAll(".events tbody tr:not(.day)")];
  const words = rows.map((row) => row.textContent.toLowerCase());
  const field = document.createElement("input");
  const told = document.createElement("output");
  field.type = "search";
  field.placeholder = "Find in events";
  field.setAttribute("aria-label", "Find in events");
  field.addEventListener("input", () => {
    const wanted = field.value.trim().toLowerCase();
    let found = 0;
    rows.forEach((row, number) => {
      const matches = words[number].includes(wanted);
      row.classList.toggle("unmatched", !matches);
      found += matches;
    });
    told.textContent = wanted ? `${found} of ${rows.length} have it` : "";
  });
  filter.append(field, told);
})();
