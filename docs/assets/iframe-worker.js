// Pages that were opened from disk may not start workers. The search's worker runs in a hidden frame there instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      const script = document.createElement("script");
      script.src = address;
      frame.hidden = true;
      this.ready = new Promise((resolve) => (script.onload = () => resolve(frame.contentWindow)));
      document.body.append(frame);
      frame.contentWindow.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      frame.contentDocument.body.append(script);
    }
    async postMessage(data) {
      (await this.ready).dispatchEvent(new MessageEvent("message", { data }));
    }
  };
}
