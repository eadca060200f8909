"""The kubelet API of a real node, as a scraper with a service account's token meets it."""

from __future__ import annotations

import ssl
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from jota.testing.host import HostCluster

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(120)]


def test_scrapers_come_with_tokens(cluster: HostCluster) -> None:
    (node,) = cluster.get("nodes")["items"]
    address = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]

    def answer(path: str, account: str = "") -> tuple[int, bytes]:
        token = cluster.kubectl("create", "token", account).strip() if account else ""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # its certificate is not what this is about
        context = ssl._create_unverified_context()
        try:
            with urlopen(Request(f"https://{address}:{port}{path}", headers=headers), context=context) as got:
                return got.status, got.read()
        except HTTPError as error:
            return error.code, error.read()

    for account in ("nobody", "scraper"):
        cluster.kubectl("create", "serviceaccount", account)
    cluster.kubectl("create", "clusterrole", "scraper", "--verb=get", "--resource=nodes/metrics")
    cluster.kubectl(
        "create", "clusterrolebinding", "scraper", "--clusterrole=scraper", "--serviceaccount=default:scraper"
    )
    assert answer("/metrics")[0] == 401
    status, told = answer("/metrics", "nobody")
    assert status == 403
    assert b"user=system:serviceaccount:default:nobody, verb=get, resource=nodes, subresource(s)=[metrics]" in told
    status, metrics = answer("/metrics/resource", "scraper")
    assert (status, b"node_cpu_usage_seconds_total" in metrics) == (200, True)
    assert answer("/pods", "scraper")[0] == 403
