"""Two tools for agents of Pawl. An agent that names executor/lookup or executor/transfer has them.

    python3 tools.py
"""

import os
import pathlib
import time

from executor import TOP, Cancelled, Executor

env = os.environ
executor = Executor(env.get("PAWL_EXECUTOR", "tools"), env.get("PAWL_DATA", ".pawl-tools"))


@executor.tool("Look up the balance of an account.", {
    "type": "object", "properties": {"account": {"type": "string"}}, "required": ["account"],
}, safety="SAFETY_PURE")
def lookup(stop, account):
    return {"text": f"The balance of {account} is 100.", "structured_json": '{"balance": 100}'}


# At most once is what a tool is that says nothing else: when this process dies while it runs, nobody knows what it did.
@executor.tool("Transfer an amount to an account.", {
    "type": "object", "properties": {"account": {"type": "string"}, "amount": {"type": "integer", "minimum": 1}},
    "required": ["account", "amount"],
}, timeout=60)
def transfer(stop, account, amount):
    with open("transfers", "a") as done:
        done.write(f"{amount} to {account}\n")
    while pathlib.Path(f"hold-{account}").exists():  # as a bank would that is slow
        if stop.is_set():
            raise Cancelled("the transfer was made, and waits for its confirmation")
        time.sleep(0.05)
    return f"{amount} transferred to {account}."


token = pathlib.Path(env.get("PAWL_TOKEN_FILE", TOP / ".pawl" / "tools.token")).read_text().strip()
ca = pathlib.Path(env["PAWL_CA"]).read_bytes() if "PAWL_CA" in env else None
executor.serve(env.get("PAWL_SERVER", "127.0.0.1:3001"), token, ca)
