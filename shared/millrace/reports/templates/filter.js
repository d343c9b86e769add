// A convenience only: hides the elements marked data-filter whose data-name does not contain the typed text.
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
addEventListener('beforeprint', function () {
  document.querySelectorAll('details').forEach(function (part) { part.open = true; });
});
