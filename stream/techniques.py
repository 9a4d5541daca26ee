"""Which published technique an alert is about: MITRE ATT&CK, MITRE ATLAS and OWASP's Top 10 for Agentic Applications.

Catalogue versions: ATT&CK 19.1, ATLAS 5.6.1, OWASP Agentic 2026. Kinds say what is unusual; actions say what was done.
"""

from __future__ import annotations

from collections.abc import Sequence

from stream.alert import Technique

_ATTACK, _ATLAS, _OWASP = "MITRE ATT&CK 19.1", "MITRE ATLAS 5.6.1", "OWASP Agentic 2026"
COLLECT = Technique(_ATTACK, "T1213", "Data from Information Repositories")
EXFILTRATE = Technique(_ATTACK, "T1567", "Exfiltration Over Web Service")
DISCOVER = Technique(_ATTACK, "T1087", "Account Discovery")
ACCOUNTS = Technique(_ATTACK, "T1078", "Valid Accounts")
GRANT = Technique(_ATTACK, "T1098", "Account Manipulation")
DESTROY = Technique(_ATTACK, "T1485", "Data Destruction")
COLLECT_TOOLS = Technique(_ATLAS, "AML.T0085", "Data from AI Services")
EXFILTRATE_TOOL = Technique(_ATLAS, "AML.T0086", "Exfiltration via AI Agent Tool Invocation")
LEAK = Technique(_ATLAS, "AML.T0057", "LLM Data Leakage")
TOOL = Technique(_ATLAS, "AML.T0053", "AI Agent Tool Invocation")
MISUSE = Technique(_OWASP, "ASI02", "Tool Misuse and Exploitation")
PRIVILEGE = Technique(_OWASP, "ASI03", "Identity and Privilege Abuse")
COMMUNICATION = Technique(_OWASP, "ASI07", "Insecure Inter-Agent Communication")
ROGUE = Technique(_OWASP, "ASI10", "Rogue Agents")


def techniques(
    kinds: Sequence[str], action: str, *, outside: bool, serious: bool, denied: bool, to_agent: bool
) -> list[Technique]:
    """Techniques that an alert's kinds and the event that it is about point to."""
    out: list[Technique] = []
    if "volume" in kinds:
        out += [COLLECT, COLLECT_TOOLS, MISUSE]
    if "recipient" in kinds or "policy" in kinds or (outside and serious):
        out += [EXFILTRATE, EXFILTRATE_TOOL] if outside else [LEAK]
    if "scope" in kinds or "sequence" in kinds:
        out += [TOOL, PRIVILEGE]
    if "policy" in kinds:
        out += [ACCOUNTS, PRIVILEGE]
    if denied:
        out += [DISCOVER]
    if action == "grant":
        out += [GRANT]
    if action == "delete":
        out += [DESTROY]
    if to_agent:
        out += [COMMUNICATION]
    return list(dict.fromkeys(out)) or [ROGUE]
