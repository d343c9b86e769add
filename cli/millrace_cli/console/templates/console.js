// Conveniences only: every page works without them.

// Reads a page that goes on again, and replaces what changed, unless somebody is typing or has selected text.
var seconds = Number(document.body.dataset.refresh || 0);
function isBusy() {
  var active = document.activeElement;
  return document.hidden || (active && /INPUT|SELECT|TEXTAREA/.test(active.tagName)) || String(getSelection()) !== '';
}
function readAgain() {
  if (isBusy()) return void setTimeout(readAgain, seconds * 1000);
  fetch(location.href, { credentials: 'same-origin' }).then(function (reply) { return reply.text(); }).then(function (text) {
    var page = new DOMParser().parseFromString(text, 'text/html');
    ['.title-row', '.subtitle', '#summary', '#content', 'footer'].forEach(function (name) {
      var old = document.querySelector(name), now = page.querySelector(name);
      if (old && now && old.innerHTML !== now.innerHTML) old.innerHTML = now.innerHTML;
    });
    seconds = Number(page.body.dataset.refresh || 0);
    if (seconds) setTimeout(readAgain, seconds * 1000);
  }).catch(function () { setTimeout(readAgain, 5000); });
}
if (seconds) setTimeout(readAgain, seconds * 1000);

// Sends a table with its progress; without this the form is sent as it is.
var upload = document.querySelector('form[data-upload]');
if (upload) upload.addEventListener('submit', function (event) {
  event.preventDefault();
  var bar = upload.querySelector('progress'), said = upload.querySelector('output'), began = Date.now();
  var request = new XMLHttpRequest();
  request.open('POST', upload.action);
  bar.hidden = false;
  request.upload.addEventListener('progress', function (sent) {
    if (!sent.lengthComputable) return;
    var share = sent.loaded / sent.total, left = (Date.now() - began) / 1000 * (1 - share) / Math.max(share, 0.001);
    bar.value = share;
    said.textContent = Math.round(100 * share) + ' %, ' + (share < 1 ? Math.ceil(left) + ' s left' : 'sending it to the stack');
  });
  request.addEventListener('load', function () {
    if (request.status < 400) return void location.assign(request.responseURL);
    var page = new DOMParser().parseFromString(request.responseText, 'text/html').querySelector('#content');
    document.querySelector('#content').innerHTML = page ? page.innerHTML : 'HTTP ' + request.status;
  });
  request.addEventListener('error', function () { said.textContent = 'the console did not answer: is it still running?'; });
  request.send(new FormData(upload));
});

document.querySelectorAll('[data-copy]').forEach(function (button) {
  button.hidden = false;
  button.addEventListener('click', function () {
    navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent).then(function () {
      button.textContent = 'Copied';
    });
  });
});
