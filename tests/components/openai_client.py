"""Asks a model once whole and once streamed, with the official OpenAI SDK.

    OPENAI_BASE_URL=http://127.0.0.1:4180/llm/v1 OPENAI_API_KEY=$TASK_TOKEN python openai_client.py [MESSAGE]

prints {"content","streamed","decision"} (`decision` is the reply's `Remit-Decision`); or
{"error":{"status","body"}}, with exit code 1.
"""

import json
import sys

from openai import APIError, OpenAI


def ask(client, message):
    question = {"model": "gpt-4o", "messages": [{"role": "user", "content": message}]}
    reply = client.chat.completions.with_raw_response.create(**question)
    chunks = client.chat.completions.create(**question, stream=True)
    pieces = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    return {
        "content": reply.parse().choices[0].message.content,
        "streamed": "".join(pieces),
        "decision": reply.headers.get("remit-decision"),
    }


def main():
    message = sys.argv[1] if len(sys.argv) > 1 else "hello"
    try:
        print(json.dumps(ask(OpenAI(max_retries=0), message)))
    except APIError as error:
        status = getattr(error, "status_code", None)
        print(json.dumps({"error": {"status": status, "body": error.body or str(error)}}))
        sys.exit(1)


main()
