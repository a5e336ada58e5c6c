"""The official clients of OpenAI and Cohere, and curl, against a running server.

    check.py BASE_URL [API_KEY]

Every check prints a line; the first that fails ends the script with an error.
"""

import base64
import json
import struct
import subprocess
import sys
import zlib

import cohere
import openai

BASE = sys.argv[1].rstrip("/")
KEY = sys.argv[2] if len(sys.argv) > 2 else "none"
DOCUMENTS = [
    {"id": "olm", "title": "Toma", "text": "Toma lies in Hadedu."},
    {"id": "kotula", "title": "Kotula", "text": "Kotula is named after Hadedu."},
    {"id": "rin", "title": "Rin", "text": "Rin was founded in 1904."},
]
QUESTION = "Where does Toma lie?"


def png(width, height, grey):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + bytes([grey]) * width for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


PICTURE = "data:image/png;base64," + base64.b64encode(png(32, 32, 128)).decode()


def done(what):
    print(f"ok  {what}")


def openai_models(client):
    ids = [model.id for model in client.models.list()]
    assert "mmrag" in ids, ids
    done(f"openai {openai.__version__}: models {ids}")


def openai_chat(client):
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": QUESTION},
                {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
            ],
        },
    ]
    extra = {"documents": DOCUMENTS}
    whole = client.chat.completions.create(model="mmrag", messages=messages, temperature=0, extra_body=extra)
    message = whole.choices[0].message
    assert isinstance(message.content, str) and whole.choices[0].finish_reason == "stop"
    explanation = whole.model_extra["mmrag"]
    assert len(explanation["candidates"]) == 3, explanation
    assert whole.usage.prompt_tokens > 0
    for annotation in message.annotations:
        citation = annotation.url_citation
        label = message.content[citation.start_index : citation.end_index]
        assert label.startswith("[") and citation.url, citation
    done(f"openai chat: {message.content!r}, {len(message.annotations)} citations")

    content, reasoning, annotations, last, usage, n_chunks = "", "", [], None, None, 0
    stream = client.chat.completions.create(
        model="mmrag", messages=messages, stream=True, stream_options={"include_usage": True}, extra_body=extra
    )
    for chunk in stream:
        n_chunks += 1
        if chunk.usage:
            usage = chunk.usage
        if not chunk.choices:
            continue
        delta = chunk.choices[0].delta
        content += delta.content or ""
        reasoning += getattr(delta, "reasoning_content", None) or ""
        annotations += getattr(delta, "annotations", None) or []
        last = chunk
    assert content == message.content, (content, message.content)
    assert reasoning == (message.model_extra.get("reasoning_content") or reasoning)
    assert last.model_extra["mmrag"]["answer"] == explanation["answer"]
    assert len(annotations) == len(message.annotations) and usage.total_tokens == whole.usage.total_tokens
    done(f"openai chat streamed in {n_chunks} chunks, reasoning {reasoning[:60]!r}")


def openai_errors(client):
    try:
        client.chat.completions.create(model="none", messages=[{"role": "user", "content": "?"}])
    except openai.NotFoundError as error:
        assert "no model none" in error.message, error
    else:
        raise AssertionError("an unknown model is refused")
    try:
        client.embeddings.create(model="mmrag", input=[[1, 2]])
    except openai.BadRequestError as error:
        assert "tokens are not" in error.message, error
    else:
        raise AssertionError("tokens are refused")
    done("openai errors: unknown model 404; embeddings of tokens 400, both in words")


def openai_embeddings(client):
    texts = ["the red house", "sea"]
    # Without a format the client asks for base64 and decodes it itself.
    decoded = client.embeddings.create(model="mmrag", input=texts)
    listed = client.embeddings.create(model="mmrag", input=texts, encoding_format="float")
    for i, text in enumerate(texts):
        vector = decoded.data[i].embedding
        assert vector == listed.data[i].embedding and decoded.data[i].index == i, (vector, listed)
        assert abs(sum(x * x for x in vector) - 1) < 1e-4, vector
        alone = client.embeddings.create(model="mmrag", input=text, dimensions=len(vector))
        assert alone.data[0].embedding == vector
    body = {"model": "mmrag", "input": texts[1], "encoding_format": "base64"}
    encoded = base64.b64decode(json.loads(curl("/v1/embeddings", body))["data"][0]["embedding"])
    assert list(struct.unpack(f"<{len(vector)}f", encoded)) == vector
    assert decoded.usage.total_tokens == decoded.usage.prompt_tokens > 0
    try:
        client.embeddings.create(model="mmrag", input="sea", dimensions=len(vector) + 1)
    except openai.BadRequestError as error:
        assert "dimensions" in str(error.body), error
    else:
        raise AssertionError("other dimensions are refused")
    done(f"openai embeddings: {len(vector)} values, as numbers and as base64, {decoded.usage.total_tokens} tokens")


def cohere_rerank():
    client = cohere.ClientV2(api_key=KEY, base_url=BASE)
    found = client.rerank(
        model="mmrag", query=QUESTION, documents=[document["text"] for document in DOCUMENTS], top_n=2
    )
    scores = [result.relevance_score for result in found.results]
    assert len(scores) == 2 and scores == sorted(scores, reverse=True), found
    why = found.results[0].model_extra["explanation"]["why"]
    done(f"cohere {cohere.__version__} rerank: {[(r.index, round(r.relevance_score, 3)) for r in found.results]}; {why}")


def curl(path, body=None, *more):
    command = ["curl", "-sS", "--fail-with-body", BASE + path, "-H", f"Authorization: Bearer {KEY}", *more]
    if body is not None:
        command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
    return ran.stdout


def with_curl():
    assert json.loads(curl("/health"))["status"] == "ok"
    found = json.loads(curl("/v1/ask", {"question": QUESTION, "documents": DOCUMENTS}))
    assert len(found["candidates"]) == 3
    events = curl("/v1/ask", {"question": QUESTION, "documents": DOCUMENTS, "stream": True}, "-N")
    names = [line.split(":", 1)[1].strip() for line in events.splitlines() if line.startswith("event:")]
    assert names[:2] == ["found", "filtered"] and names[-1] == "done", names
    done(f"curl /v1/ask: {found['answer']!r}; streamed {len(names)} events")
    for path in ["/rerank", "/v1/rerank"]:
        body = {"query": QUESTION, "documents": [{"text": "Toma lies in Hadedu."}, {"image": PICTURE, "title": "sea"}]}
        assert len(json.loads(curl(path, body))["results"]) == 2
    tei = json.loads(curl("/rerank", {"query": QUESTION, "texts": ["a", "Toma lies in Hadedu."]}))
    assert {"index", "score"} <= set(tei[0]), tei
    done("curl rerank: Jina's and vLLM's form with a picture, TEI's bare array")
    label = {"stage": "rank", "documents": ["a", "b"], "gold": ["b"], "answers": ["red"]}
    reply = "<think>[1] says nothing. [2] is red.</think><rank>[2,1]</rank><answer>red [2]</answer>"
    scored = json.loads(curl("/v1/score", {"items": [{"mmrag": label, "completion": reply}]}))
    rewards = json.loads(
        curl("/get_reward", {"query": ["Q" + reply], "prompts": ["Q"], "labels": [json.dumps(label)]})
    )
    assert rewards["rewards"] == [scored["items"][0]["score"]], (rewards, scored)
    done(f"curl /v1/score and /get_reward agree: {rewards['rewards']}")
    assert "http_requests_total" in curl("/metrics")
    assert json.loads(curl("/openapi.json"))["openapi"].startswith("3.")
    done("curl /metrics and /openapi.json")


def main():
    client = openai.OpenAI(base_url=BASE + "/v1", api_key=KEY, max_retries=0)
    openai_models(client)
    openai_chat(client)
    openai_errors(client)
    openai_embeddings(client)
    cohere_rerank()
    with_curl()
    print("9 passed, 0 failed")


main()
