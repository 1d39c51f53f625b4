/* Small helpers of the admin's pages; each page works without them. */
(function () {
  "use strict";

  function written(when) {
    var pad = function (number) { return String(number).padStart(2, "0"); };
    return when.getFullYear() + "-" + pad(when.getMonth() + 1) + "-" + pad(when.getDate()) + " " +
      pad(when.getHours()) + ":" + pad(when.getMinutes()) + ":" + pad(when.getSeconds());
  }

  function localise(root) {
    root.querySelectorAll("time.webhooks-moment").forEach(function (node) {
      var when = new Date(node.dateTime);
      if (!isNaN(when)) { node.textContent = written(when); }
    });
  }

  /* Moments are entered by the clock that the page shows, and sent with their zone. */
  function enter() {
    var fields = document.querySelectorAll("input[data-webhooks-utc]");
    fields.forEach(function (field) {
      var when = new Date(field.dataset.webhooksUtc);
      if (!isNaN(when)) { field.value = written(when).replace(" ", "T"); }
      field.form.addEventListener("formdata", function (event) {
        var entered = new Date(field.value);
        if (!isNaN(entered)) { event.formData.set(field.name, entered.toISOString()); }
      });
    });
    document.querySelectorAll(".webhooks-zone").forEach(function (node) {
      node.textContent = Intl.DateTimeFormat().resolvedOptions().timeZone || node.textContent;
    });
  }

  /* A part of the page that is fetched again until it says that it is over. */
  function follow() {
    var part = document.querySelector("[data-webhooks-live]");
    if (!part) { return; }
    window.setTimeout(function () {
      fetch(window.location.href, {credentials: "same-origin"}).then(function (answer) {
        return answer.ok ? answer.text() : "";
      }).then(function (text) {
        var page = text && new DOMParser().parseFromString(text, "text/html");
        var fresh = page && page.getElementById(part.id);
        if (fresh && !part.contains(document.activeElement)) {
          if (!fresh.dataset.webhooksLive) {
            /* It is over: what stands around it has changed as well. */
            window.location.reload();
            return;
          }
          localise(fresh);
          part.replaceWith(document.adoptNode(fresh));
        }
        follow();
      }).catch(follow);
    }, Number(part.dataset.webhooksLive) || 2000);
  }

  function copy() {
    document.querySelectorAll("[data-webhooks-copy]").forEach(function (button) {
      button.addEventListener("click", function () {
        var source = document.getElementById(button.dataset.webhooksCopy);
        if (navigator.clipboard) {
          navigator.clipboard.writeText(source.textContent);
        } else {
          var range = document.createRange();
          range.selectNodeContents(source);
          window.getSelection().removeAllRanges();
          window.getSelection().addRange(range);
        }
      });
    });
  }

  /* A search above a long list of boxes. */
  function search() {
    document.querySelectorAll("[data-webhooks-search]").forEach(function (field) {
      var list = document.getElementById(field.dataset.webhooksSearch);
      field.hidden = false;
      field.addEventListener("input", function () {
        var wanted = field.value.toLowerCase();
        list.querySelectorAll("label").forEach(function (label) {
          label.hidden = label.textContent.toLowerCase().indexOf(wanted) < 0;
        });
      });
    });
  }

  /* A choice that changes the rest of the page. */
  function reload() {
    document.querySelectorAll("[data-webhooks-reload]").forEach(function (field) {
      field.addEventListener("change", function () {
        var address = new URL(window.location.href);
        address.searchParams.set(field.name, field.value);
        window.location.assign(address);
      });
    });
  }

  /* The admin labels its search by a picture alone. */
  function label() {
    var field = document.getElementById("searchbar");
    var picture = document.querySelector("label[for=searchbar] img");
    if (field && picture) { field.setAttribute("aria-label", picture.alt); }
  }

  document.addEventListener("DOMContentLoaded", function () {
    label();
    localise(document);
    enter();
    follow();
    copy();
    search();
    reload();
  });
})();
