// Plays all versions of a clip at once, sample by sample together, with one of them audible.
//
// A page opened from disk may not fetch files, so a clip's audio comes as a script that calls
// m2lAudio({clip, mime, tracks: {name: base64}}). A track may name another: then it is the same audio.
(function () {
  "use strict";

  var FADE = 0.006; // seconds; a switch without a click
  var waiting = {};

  window.m2lAudio = function (packed) {
    var found = waiting[packed.clip];
    if (found) found.resolve(packed);
  };

  /** Load a clip's script once; resolves to what it holds. */
  function load(clip, address) {
    if (!waiting[clip]) {
      var entry = {};
      entry.promise = new Promise(function (resolve, reject) {
        entry.resolve = resolve;
        var script = document.createElement("script");
        script.src = address;
        script.onerror = function () {
          delete waiting[clip];
          reject(new Error(address + " cannot be read"));
        };
        document.head.appendChild(script);
      });
      waiting[clip] = entry;
    }
    return waiting[clip].promise;
  }

  function bytes(base64) {
    var text = window.atob(base64);
    var array = new Uint8Array(text.length);
    for (var i = 0; i < text.length; i++) array[i] = text.charCodeAt(i);
    return array.buffer;
  }

  function Player() {
    this.context = null;
    this.clip = null;
    this.buffers = {};
    this.levels = {};
    this.voices = {};
    this.track = null;
    this.playing = false;
    this.loop = true;
    this.offset = 0; // position when last started or paused, in seconds
    this.startedAt = 0; // the context's clock at that moment
    this.duration = 0;
    this.onend = null;
    this.request = 0;
  }

  /** Make a clip's buffers ready; resolves when it can be played. A later call wins over an earlier one. */
  Player.prototype.open = function (clip, address) {
    var self = this;
    if (this.clip === clip) return Promise.resolve(true);
    this.stop();
    var request = ++this.request;
    if (!this.context) this.context = new (window.AudioContext || window.webkitAudioContext)();
    return load(clip, address).then(function (packed) {
      var names = Object.keys(packed.tracks);
      var own = names.filter(function (name) {
        return !(packed.tracks[name] in packed.tracks);
      });
      return Promise.all(
        own.map(function (name) {
          return self.context.decodeAudioData(bytes(packed.tracks[name]));
        })
      ).then(function (decoded) {
        if (request !== self.request) return false;
        self.buffers = {};
        own.forEach(function (name, index) {
          self.buffers[name] = decoded[index];
        });
        names.forEach(function (name) {
          if (!self.buffers[name]) self.buffers[name] = self.buffers[packed.tracks[name]];
        });
        self.clip = clip;
        self.offset = 0;
        self.duration = Math.min.apply(
          null,
          decoded.map(function (buffer) {
            return buffer.duration;
          })
        );
        return true;
      });
    });
  };

  /** Seconds from the start of the clip. */
  Player.prototype.position = function () {
    if (!this.playing) return this.offset;
    var at = this.offset + Math.max(0, this.context.currentTime - this.startedAt);
    return this.loop ? at % this.duration : Math.min(at, this.duration);
  };

  Player.prototype.play = function () {
    if (this.playing || !this.clip) return;
    var self = this;
    this.context.resume();
    if (this.offset >= this.duration - 0.01) this.offset = 0;
    var when = this.context.currentTime + 0.02;
    Object.keys(this.buffers).forEach(function (name) {
      var source = self.context.createBufferSource();
      var gain = self.context.createGain();
      source.buffer = self.buffers[name];
      source.loop = self.loop;
      source.loopEnd = self.duration;
      gain.gain.value = self.gainOf(name);
      source.connect(gain);
      gain.connect(self.context.destination);
      source.start(when, self.offset);
      self.voices[name] = { source: source, gain: gain };
    });
    var first = this.voices[Object.keys(this.voices)[0]].source;
    first.onended = function () {
      if (self.playing && self.voices[Object.keys(self.voices)[0]].source === first) {
        self.stop();
        if (self.onend) self.onend();
      }
    };
    this.startedAt = when;
    this.playing = true;
  };

  Player.prototype.pause = function () {
    if (!this.playing) return;
    this.offset = this.position();
    this.silence();
  };

  Player.prototype.stop = function () {
    this.silence();
    this.offset = 0;
  };

  Player.prototype.silence = function () {
    var self = this;
    Object.keys(this.voices).forEach(function (name) {
      self.voices[name].source.onended = null;
      self.voices[name].source.stop();
      self.voices[name].gain.disconnect();
    });
    this.voices = {};
    this.playing = false;
  };

  Player.prototype.seek = function (seconds) {
    var was = this.playing;
    if (was) this.silence();
    this.offset = Math.max(0, Math.min(seconds, this.duration));
    if (was) this.play();
  };

  Player.prototype.setLoop = function (on) {
    var at = this.position();
    this.loop = on;
    if (this.playing) this.seek(at);
  };

  /** Make another version audible; the play head does not notice. */
  Player.prototype.select = function (track) {
    this.track = track;
    this.mix();
  };

  /** Linear gains by track name. */
  Player.prototype.setLevels = function (levels) {
    this.levels = levels;
    this.mix();
  };

  Player.prototype.gainOf = function (name) {
    if (name !== this.track) return 0;
    return this.levels[name] === undefined ? 1 : this.levels[name];
  };

  Player.prototype.mix = function () {
    var self = this;
    Object.keys(this.voices).forEach(function (name) {
      var gain = self.voices[name].gain.gain;
      var now = self.context.currentTime;
      gain.cancelScheduledValues(now);
      gain.setValueAtTime(gain.value, now);
      gain.linearRampToValueAtTime(self.gainOf(name), now + FADE);
    });
  };

  window.m2lPlayer = new Player();
})();
