// The listening page: one clip at a time, its versions as a list of choices, the player at the foot.
(function () {
  "use strict";

  var player = window.m2lPlayer;
  var bar = document.querySelector("[data-player]");
  var root = document.querySelector(".listen");
  var clips = Array.prototype.slice.call(document.querySelectorAll(".clip"));
  var links = Array.prototype.slice.call(document.querySelectorAll("[data-clip]"));
  var seek = bar.querySelector("#seek");
  var time = bar.querySelector("[data-time]");
  var total = bar.querySelector("[data-total]");
  var now = bar.querySelector("[data-now]");
  var playButton = bar.querySelector("[data-play]");
  var status = bar.querySelector("[data-status]");
  var match = bar.querySelector("[data-match]");
  var current = null;
  var dragging = false;

  function clock(seconds) {
    var whole = Math.floor(seconds + 1e-6);
    return Math.floor(whole / 60) + ":" + String(whole % 60).padStart(2, "0");
  }

  function tracksOf(clip) {
    return Array.prototype.slice.call(clip.querySelectorAll(".track"));
  }

  function radioOf(track) {
    return track.querySelector('input[type="radio"]');
  }

  function playable(clip) {
    return tracksOf(clip).filter(function (track) {
      return !radioOf(track).disabled;
    });
  }

  // -- which clip, which version

  function show(id, focus) {
    var next = document.getElementById(id) || clips[0];
    if (clips.indexOf(next) < 0) next = clips[0];
    if (next === current) return;
    var wanted = current ? chosen(current) : null;
    player.stop();
    current = next;
    clips.forEach(function (clip) {
      clip.hidden = clip !== current;
    });
    links.forEach(function (link) {
      var own = link.getAttribute("data-clip") === current.id;
      if (own) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
    // The system a listener follows stays chosen from clip to clip.
    var same = playable(current).filter(function (track) {
      return track.getAttribute("data-track") === wanted;
    })[0];
    select(same || playable(current)[0]);
    var seconds = Number(current.getAttribute("data-seconds"));
    seek.max = seconds;
    total.textContent = clock(seconds);
    draw();
    state();
    if (focus) current.focus({ preventScroll: true });
  }

  function chosen(clip) {
    var radio = clip.querySelector('input[type="radio"]:checked');
    return radio ? radio.value : null;
  }

  function select(track) {
    if (!track) return;
    radioOf(track).checked = true;
    tracksOf(current).forEach(function (each) {
      each.classList.toggle("on", each === track);
    });
    now.textContent = track.querySelector(".track-name").textContent;
    bar.setAttribute("data-track", track.getAttribute("data-track"));
    levels();
    player.select(track.getAttribute("data-track"));
  }

  function step(by) {
    var list = playable(current);
    var at = list.findIndex(function (track) {
      return radioOf(track).checked;
    });
    var next = list[(at + by + list.length) % list.length];
    select(next);
    radioOf(next).focus({ preventScroll: true });
  }

  function levels() {
    var found = {};
    var list = playable(current);
    var quietest = Math.min.apply(null, list.map(levelOf).filter(audible));
    list.forEach(function (track) {
      var level = levelOf(track);
      var down = match.checked && audible(level) ? quietest - level : 0;
      var gain = Number(track.getAttribute("data-gain")) * Math.pow(10, down / 20);
      found[track.getAttribute("data-track")] = gain;
    });
    player.setLevels(found);
  }

  function levelOf(track) {
    return Number(track.getAttribute("data-rms"));
  }

  function audible(level) {
    return level > -70;
  }

  // -- playing

  function state(text) {
    bar.setAttribute("data-state", text || (player.playing ? "playing" : "paused"));
    playButton.setAttribute("aria-label", player.playing ? "Pause" : "Play");
  }

  function draw() {
    var at = player.clip === (current && current.id) ? player.position() : 0;
    if (!dragging) seek.value = at;
    time.textContent = clock(at);
    seek.setAttribute("aria-valuetext", at.toFixed(1) + " seconds, " + now.textContent);
    if (current) current.style.setProperty("--at", at / (Number(seek.max) || 1));
  }

  function frame() {
    draw();
    if (player.playing) window.requestAnimationFrame(frame);
  }

  function start(from) {
    var clip = current;
    state("loading");
    return player.open(clip.id, clip.getAttribute("data-script")).then(
      function (ready) {
        if (!ready || clip !== current) return;
        if (player.duration) {
          seek.max = player.duration;
          total.textContent = clock(player.duration);
        }
        if (from !== undefined) player.seek(from);
        player.select(chosen(clip));
        player.play();
        status.textContent = "";
        state();
        window.requestAnimationFrame(frame);
      },
      function (error) {
        status.textContent = "No audio: " + error.message;
        status.classList.remove("vh");
        state("failed");
      }
    );
  }

  function toggle() {
    if (player.playing) {
      player.pause();
      state();
      draw();
    } else {
      start();
    }
  }

  function moveTo(seconds) {
    if (player.clip === current.id) {
      player.seek(seconds);
      draw();
    } else {
      start(seconds);
    }
  }

  player.onend = function () {
    state();
    draw();
  };

  playButton.addEventListener("click", toggle);
  seek.addEventListener("pointerdown", function () {
    dragging = true;
  });
  seek.addEventListener("change", function () {
    dragging = false;
    moveTo(Number(seek.value));
  });
  seek.addEventListener("input", function () {
    if (!dragging) moveTo(Number(seek.value));
  });
  window.addEventListener("pointerup", function () {
    dragging = false;
  });
  bar.querySelector("[data-loop]").addEventListener("change", function (event) {
    player.setLoop(event.target.checked);
  });
  match.addEventListener("change", levels);

  clips.forEach(function (clip) {
    tracksOf(clip).forEach(function (track) {
      radioOf(track).addEventListener("change", function () {
        select(track);
      });
      var picture = track.querySelector(".picture");
      if (!picture) return;
      picture.addEventListener("click", function (event) {
        var box = picture.getBoundingClientRect();
        select(track);
        var at = ((event.clientX - box.left) / box.width) * Number(seek.max);
        if (player.playing || player.clip === current.id) moveTo(at);
        else start(at);
        if (!player.playing && player.clip === current.id) start();
      });
    });
  });

  // -- keys: only while the player or a list of systems has the focus, so that nothing else is taken over

  function onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    var tag = event.target.tagName;
    var list = playable(current);
    if (event.key === " " && tag !== "BUTTON" && event.target.type !== "checkbox") toggle();
    else if (/^[0-9]$/.test(event.key) && list[Number(event.key)]) {
      select(list[Number(event.key)]);
      if (event.target.type === "radio") radioOf(list[Number(event.key)]).focus({ preventScroll: true });
    } else if (event.key === "j" || event.key === "l") moveTo(player.position() + (event.key === "j" ? -2 : 2));
    else if ((event.key === "ArrowUp" || event.key === "ArrowDown") && event.target.type !== "radio") {
      step(event.key === "ArrowUp" ? -1 : 1);
    } else return;
    event.preventDefault();
  }

  bar.addEventListener("keydown", onKey);
  clips.forEach(function (clip) {
    clip.addEventListener("keydown", onKey);
  });

  // -- the list of clips

  var order = document.getElementById("clip-order");
  var items = links.map(function (link) {
    return link.parentNode;
  });

  order.addEventListener("change", function () {
    var key = order.value;
    var scored = items.map(function (item, at) {
      var value = key ? JSON.parse(item.getAttribute("data-order"))[key] : at;
      return { item: item, value: value === undefined ? Infinity : value, known: value !== undefined };
    });
    scored.sort(function (a, b) {
      return a.value < b.value ? -1 : a.value > b.value ? 1 : 0;
    });
    scored.forEach(function (each) {
      each.item.parentNode.appendChild(each.item);
      var shown = key ? (each.known ? each.value.toFixed(2).replace("-", "−") : "no score") : "";
      each.item.querySelector(".clip-value").textContent = shown;
    });
  });

  links.forEach(function (link) {
    link.addEventListener("click", function (event) {
      event.preventDefault();
      var id = link.getAttribute("data-clip");
      if (window.location.hash !== "#" + id) window.history.pushState(null, "", "#" + id);
      show(id, true);
    });
  });
  window.addEventListener("popstate", function () {
    show(window.location.hash.slice(1));
  });
  window.addEventListener("hashchange", function () {
    show(window.location.hash.slice(1));
  });

  root.classList.add("live");
  bar.hidden = false;
  document.querySelector("[data-picker]").hidden = false;
  show(window.location.hash.slice(1));
})();
