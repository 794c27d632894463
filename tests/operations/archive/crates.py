"""Let roc-validator judge a crate, without a network: run by the Python of its own environment (ci/crate-validator).

usage: python crates.py CACHE CRATE
Prints JSON: the severities, checks and messages of all issues, and how many checks were made. The context of RO-Crate
1.1 comes from rocrate 0.13, which brings its text along; it is put into the validator's cache as if it was fetched.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any


def fill_cache(path: str) -> None:
    """Put the one remote document that is needed into the validator's cache."""
    from requests.adapters import HTTPAdapter
    from requests_cache import CachedSession
    from rocrate.vocabs import RO_CRATE
    from urllib3 import HTTPResponse

    class Shelf(HTTPAdapter):
        def send(self, request: Any, *_: Any, **__: Any) -> Any:
            if request.url != "https://w3id.org/ro/crate/1.1/context" or RO_CRATE["@id"] != request.url:
                raise SystemExit(f"not here: {request.url}")
            body = io.BytesIO(json.dumps(RO_CRATE).encode())
            return self.build_response(
                request, HTTPResponse(body, {"Content-Type": "application/ld+json"}, 200, preload_content=False)
            )

    session = CachedSession(path, backend="sqlite", expire_after=-1)
    session.mount("https://", Shelf())
    session.get("https://w3id.org/ro/crate/1.1/context")


def judge(cache: str, crate: str) -> dict[str, Any]:
    """Validate against the Workflow Run Crate profile and all that it extends, recommendations included."""
    from rocrate_validator import models, services

    result = services.validate(
        services.ValidationSettings(
            rocrate_uri=crate,
            profile_identifier="workflow-run-crate",
            requirement_severity=models.Severity.RECOMMENDED,
            offline=True,
            cache_path=cache,
        )
    )
    issues = [[issue.severity.name, issue.check.identifier, issue.message] for issue in result.get_issues()]
    return {"issues": issues, "checks": len(result.executed_checks), "skipped": len(result.skipped_checks)}


if __name__ == "__main__":
    fill_cache(sys.argv[1])
    print("\n" + json.dumps(judge(sys.argv[1], sys.argv[2])))
