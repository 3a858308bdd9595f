def run(target: str, ports: str = "80,443") -> dict:
    """Scan ports on target."""
    raw = tools.nmap(target=target, flags=f"-p {ports}")
    # Parse and return structured results
    return {"target": target, "raw": raw}
