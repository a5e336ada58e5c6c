// Requests to this server, and to no other.

const KEY = "mmrag-key";

export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

function headers(more = {}) {
  const key = sessionStorage.getItem(KEY);
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function checked(response) {
  if (response.ok) return response;
  let message = `the server says ${response.status}`;
  try {
    message = (await response.json()).error.message;
  } catch { /* The body said nothing more. */ }
  throw new Refused(response.status, message);
}

export async function get(path) {
  return (await checked(await fetch(path, { headers: headers() }))).json();
}

export async function post(path, body) {
  const sent = await fetch(path, {
    method: "POST",
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify(body),
  });
  return (await checked(sent)).json();
}

// As `post`, and tells how much of the body has gone out: fetch does not.
export function send(path, body, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers({ "Content-Type": "application/json" }))) {
      request.setRequestHeader(name, value);
    }
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) progress(event.loaded / event.total);
    });
    request.addEventListener("error", () => reject(new Refused(0, "the server does not answer")));
    request.addEventListener("load", () => {
      const answer = (() => {
        try {
          return JSON.parse(request.responseText);
        } catch {
          return {};
        }
      })();
      if (request.status < 300) resolve(answer);
      else reject(new Refused(request.status, answer.error?.message ?? `the server says ${request.status}`));
    });
    request.send(JSON.stringify(body));
  });
}

// Sends a file as it is, and tells how much of it has gone out and what the server says of it.
// Gives what the last event says.
export function sendFile(path, file, progress, said) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers({ "Content-Type": "application/octet-stream" }))) {
      request.setRequestHeader(name, value);
    }
    let read = 0;
    const listen = () => {
      for (;;) {
        const end = request.responseText.indexOf("\n\n", read);
        if (request.status >= 300 || end < 0) return;
        const [name, data] = parsed(request.responseText.slice(read, end));
        read = end + 2;
        if (name === "done") resolve(data);
        else if (name === "error") reject(new Refused(0, data.error.message));
        else if (data) said(name, data);
      }
    };
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) progress(event.loaded / event.total);
    });
    request.addEventListener("progress", listen);
    request.addEventListener("error", () => reject(new Refused(0, "the server does not answer")));
    request.addEventListener("load", () => {
      listen();
      let message = `the server says ${request.status}`;
      try {
        message = JSON.parse(request.responseText).error.message;
      } catch { /* It said nothing more. */ }
      // After an end was told this does nothing.
      reject(new Refused(request.status, message));
    });
    request.send(file);
  });
}

export async function remove(path) {
  return (await checked(await fetch(path, { method: "DELETE", headers: headers() }))).json();
}

// A picture of a document as an address that an image element can show.
export async function picture(collection, id) {
  const path = `/v1/pictures/${path_of(id)}?collection=${encodeURIComponent(collection)}`;
  const response = await checked(await fetch(path, { headers: headers() }));
  return URL.createObjectURL(await response.blob());
}

export function path_of(id) {
  return id.split("/").map(encodeURIComponent).join("/");
}

// The events of a stream, each as [name, value].
export async function* events(path, body, signal) {
  const sent = await fetch(path, {
    method: "POST",
    headers: headers({ "Content-Type": "application/json" }),
    body: JSON.stringify(body),
    signal,
  });
  const reader = (await checked(sent)).body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const whole = held.split("\n\n");
    held = whole.pop();
    for (const event of whole) {
      const [name, data] = parsed(event);
      if (data) yield [name, data];
    }
  }
}

// An event's name and value; no value of what only keeps the connection.
function parsed(event) {
  let name = "message";
  let data = "";
  for (const line of event.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data += line.slice(5).trim();
  }
  return [name, data && JSON.parse(data)];
}
