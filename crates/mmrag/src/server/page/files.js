// Files that somebody picks, as documents.

export function readAsDataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Error(`${file.name} cannot be read`)));
    reader.readAsDataURL(file);
  });
}

const NAME = /^(.*?)(\.[^.]*)?$/;

const READ_THERE = /\.(pdf|html?|xhtml|xlsx|xlsm|xls|ods|tsv|json)$/i;

// Whether the server reads a file of this kind into documents.
export const isReadThere = (file) => READ_THERE.test(file.name);

// The documents in a file, or an error that says what the file should be.
export async function documentsOf(file) {
  const [, title, ending = ""] = NAME.exec(file.name);
  if (file.type.startsWith("image/")) {
    return [{ id: file.name, title, image: await readAsDataUrl(file) }];
  }
  switch (ending.toLowerCase()) {
    case ".txt":
    case ".md":
      return [{ id: file.name, title, text: await file.text() }];
    case ".csv": {
      const [header = [], ...rows] = csv(await file.text());
      return [{ id: file.name, title, table: { name: title, header, rows } }];
    }
    case ".jsonl":
      return (await file.text()).split("\n").filter((line) => line.trim()).map((line, at) => {
        try {
          return JSON.parse(line);
        } catch {
          throw new Error(`line ${at + 1} is no JSON`);
        }
      });
    default:
      throw new Error("pictures, .pdf, .html, .txt, .md, .csv, .tsv, .xlsx, .xls, .ods, .json and .jsonl are taken");
  }
}

// Rows of comma-separated values, with quotes as RFC 4180 has them.
export function csv(text) {
  const rows = [];
  let row = [];
  let cell = "";
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const c = text[at];
    if (quoted) {
      if (c !== '"') cell += c;
      else if (text[at + 1] === '"') {
        cell += '"';
        at += 1;
      } else quoted = false;
    } else if (c === '"' && cell === "") quoted = true;
    else if (c === ",") {
      row.push(cell);
      cell = "";
    } else if (c === "\n" || c === "\r") {
      if (c === "\r" && text[at + 1] === "\n") at += 1;
      row.push(cell);
      cell = "";
      rows.push(row);
      row = [];
    } else cell += c;
  }
  if (cell !== "" || row.length > 0) rows.push([...row, cell]);
  return rows.filter((cells) => cells.some((value) => value !== ""));
}
