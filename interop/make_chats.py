"""What transformers renders from the chat templates of a folder, for `crates/model/tests/io_template.rs`.

    python interop/make_chats.py crates/model/tests/fixtures/chats

Of every NAME.jinja a NAME.json is written: messages, options and the text.
"""

import json
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import render_jinja_template

IMAGE, TEXT = {"type": "image"}, lambda text: {"type": "text", "text": text}
CHATS = [
    [{"role": "user", "content": "Hello {{ x }} <|im_end|>"}],
    [{"role": "system", "content": "Judge documents."}, {"role": "user", "content": [TEXT("Which?\n[1] "), IMAGE, TEXT("\n[2] Städte: größer \u2028 end")]}],
    [{"role": "user", "content": [IMAGE, IMAGE, TEXT("compare")]}, {"role": "assistant", "content": "<think>\nfirst\n</think>\n\nthe left one"}, {"role": "user", "content": [TEXT("why? "), IMAGE]}],
    [{"role": "user", "content": "go on!!"}, {"role": "assistant", "content": "<think>\n\n so it is \n</think>\n\nyes"}, {"role": "user", "content": " [note] said\r\naside"}],
    [{"role": "system", "content": [TEXT("several "), TEXT("parts")]}, {"role": "user", "content": "a\n\n"}, {"role": "assistant", "content": "b"}],
    [{"role": "user", "content": ""}, {"role": "assistant", "content": [TEXT("{% raw %}"), {"type": "other"}]}],
]


def main():
    for file in sorted(Path(sys.argv[1]).glob("*.jinja")):
        template, cases = file.read_text(), []
        for number, messages in enumerate(CHATS):
            options = {"add_generation_prompt": number != 4, "add_vision_id": number % 2 == 0}
            rendered, _ = render_jinja_template([messages], chat_template=template, **options)
            cases.append({**options, "messages": messages, "rendered": rendered[0]})
        text = json.dumps({"cases": cases}, indent=1, ensure_ascii=True)
        file.with_suffix(".json").write_text(text + "\n")


if __name__ == "__main__":
    main()
