"""Calls one MCP tool with the official Python SDK.

    TOKEN=… python mcp_client.py [--mode auto|legacy] URL TOOL ['{"argument": 1}']

prints {"protocol","tools":[names],"result":{…}}; or {"error":{"code","message"}}, with exit code 1.
`auto` tries the stateless protocol (2026-07-28) first, `legacy` starts with `initialize`.
"""

import argparse
import asyncio
import json
import logging
import os
import sys

from mcp import Client, MCPError
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client


async def call(url, mode, tool, arguments):
    token = os.environ.get("TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with create_mcp_http_client(headers=headers) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            result = await client.call_tool(tool, arguments)
            return {
                "protocol": client.protocol_version,
                "tools": tools,
                "result": result.model_dump(mode="json", by_alias=True, exclude_none=True),
            }


def cause(error):
    """The first real error in the groups that task groups wrap errors in."""
    while getattr(error, "exceptions", None):
        error = error.exceptions[0]
    return error


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", default="auto", choices=["auto", "legacy"])
    parser.add_argument("url")
    parser.add_argument("tool")
    parser.add_argument("arguments", nargs="?", default="{}")
    asked = parser.parse_args()
    logging.disable()
    try:
        print(json.dumps(asyncio.run(call(asked.url, asked.mode, asked.tool, json.loads(asked.arguments)))))
    except Exception as error:
        error = cause(error)
        code = error.error.code if isinstance(error, MCPError) else None
        print(json.dumps({"error": {"code": code, "message": str(error) or type(error).__name__}}))
        sys.exit(1)


main()
