// Conveniences only: pages can be read without them.

// Hides the elements marked data-filter whose data-name does not contain the typed text.
document.querySelectorAll('.filter').forEach(function (form) {
  var input = form.querySelector('input'), output = form.querySelector('output');
  var items = document.querySelectorAll('[data-filter="' + form.dataset.for + '"]');
  form.hidden = false;
  input.addEventListener('input', function () {
    var wanted = input.value.trim().toLowerCase(), shown = 0;
    items.forEach(function (item) {
      item.hidden = item.dataset.name.toLowerCase().indexOf(wanted) < 0;
      shown += item.hidden ? 0 : 1;
    });
    output.textContent = wanted ? shown + ' of ' + items.length : '';
  });
});
// Stacks the cells of tables that do not fit a narrow screen, each behind the name of its column.
var ROLES = { TBODY: 'rowgroup', TR: 'row', TH: 'rowheader', TD: 'cell' };
var tables = document.querySelectorAll('.scroll > table:not(.matrix)');
tables.forEach(function (table) {
  var names = Array.from(table.tHead.rows[0].cells, function (cell) { return cell.textContent; });
  table.setAttribute('role', 'table');
  table.querySelectorAll('tbody, tbody tr, tbody th, tbody td').forEach(function (part) {
    part.setAttribute('role', ROLES[part.tagName]);
    if (part.cellIndex >= 0) part.dataset.label = names[part.cellIndex] || '';
  });
});
function fit() {
  tables.forEach(function (table) {
    table.classList.remove('stacked');
    table.classList.toggle('stacked', innerWidth < 850 && table.scrollWidth > table.parentNode.clientWidth);
  });
}
fit();
addEventListener('resize', fit);
document.querySelectorAll('details').forEach(function (part) { part.addEventListener('toggle', fit); });

addEventListener('beforeprint', function () {
  tables.forEach(function (table) { table.classList.remove('stacked'); });
  document.querySelectorAll('details').forEach(function (part) { part.open = true; });
});
