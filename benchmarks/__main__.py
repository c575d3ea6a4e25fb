"""Run every benchmark, each in a process of its own so that none inherits another's memory or threads."""

import subprocess
import sys

SCRIPTS = ("generation", "prompt_lookup", "attention_memory", "lora", "embedding", "reingest", "serving", "refusal", "followups", "classification",
           "first_token", "answers", "poisoned", "search_scale", "retrieval", "pdf_text", "perplexity", "sms_spam",
           "manifest", "ingest_peers", "financebench",
           "chunking", "pretrain_speed", "char_shakespeare")  # fmt: skip

if __name__ == "__main__":
    failed = []
    for name in sys.argv[1:] or SCRIPTS:
        print(f"\n== benchmarks.{name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
