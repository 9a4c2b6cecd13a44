"""Every host of genai-prices names its provider, by a name under which the price book has its list."""

import re

import pytest
from genai_prices import data

from pipelines.pricing import default_book
from tailrace_emitter.adapters.providers import provider_of

HOSTS = {
    "anthropic": ["api.anthropic.com"],
    "arcee": ["api.arcee.ai"],
    "avian": ["api.avian.io"],
    "aws": ["bedrock-runtime.us-east-1.amazonaws.com"],
    "azure": [
        "acme.openai.azure.com",
        "acme.services.ai.azure.com",
        "acme.cognitiveservices.azure.com",
        "acme.azure-api.net",
    ],
    "baseten": ["inference.baseten.co"],
    "cerebras": ["api.cerebras.ai"],
    "cloudflare": ["api.cloudflare.com"],
    "cohere": ["api.cohere.com", "api.cohere.ai"],
    "cursor": ["api.cursor.com"],
    "databricks": ["acme.cloud.databricks.com", "adb-1.2.azuredatabricks.net", "1.2.gcp.databricks.com"],
    "deepseek": ["api.deepseek.com"],
    "doubleword": ["api.doubleword.ai"],
    "elevenlabs": ["api.elevenlabs.io", "api.eu.residency.elevenlabs.io"],
    "fireworks": ["api.fireworks.ai"],
    "github-copilot": ["api.githubcopilot.com"],
    "google": ["generativelanguage.googleapis.com", "us-east1-aiplatform.googleapis.com", "aiplatform.googleapis.com"],
    "groq": ["api.groq.com"],
    "meta": ["api.meta.ai"],
    "minimax": ["api.minimax.io", "api.minimax.com", "api.minimaxi.com"],
    "mistral": ["api.mistral.ai"],
    "modal": ["acme--app.modal.run", "acme.modal.direct"],
    "moonshotai": ["api.moonshot.ai", "api.moonshot.cn"],
    "novita": ["api.novita.ai"],
    "openai": ["api.openai.com"],
    "openrouter": ["openrouter.ai", "api.openrouter.ai"],
    "ovhcloud": ["oai.endpoints.kepler.ai.cloud.ovh.net"],
    "perplexity": ["api.perplexity.ai"],
    "quicksilverpro": ["api.quicksilverpro.io"],
    "together": ["api.together.xyz"],
    "typesafe": ["api.typesafe.ai"],
    "voyageai": ["api.voyageai.com"],
    "x-ai": ["api.x.ai"],
    "zai": ["api.z.ai"],
    "zhipuai": ["open.bigmodel.cn"],
}
PATHS = {"cloudflare": "/client/v4/accounts/a/ai", "databricks": "/serving-endpoints"}
NOT_BY_HOST = {"openai-decisions"}
"""Its host is OpenAI's."""


def test_every_provider_of_the_price_list_has_its_hosts_here() -> None:
    ids = {p.id for p in data.providers if not p.id.startswith("huggingface_")}
    assert ids - NOT_BY_HOST == set(HOSTS)


@pytest.mark.parametrize(("owner", "host"), [(owner, host) for owner, hosts in HOSTS.items() for host in hosts])
def test_a_host_names_the_provider_whose_list_prices_it(owner: str, host: str) -> None:
    (listed,) = (p for p in data.providers if p.id == owner)
    assert re.match(listed.api_pattern, f"https://{host}{PATHS.get(owner, '')}/"), "the host is one of the list"
    name = provider_of(host)
    assert name is not None
    found = default_book()._matcher._provider(name)
    assert found is not None
    assert found["id"] == owner


def test_the_host_comes_before_the_response_and_that_before_the_model() -> None:
    assert provider_of("api.groq.com", "openai/gpt-oss-120b", "anthropic/claude-sonnet-4-5") == "groq"
    assert provider_of("gateway.internal", "azure/gpt-4o", "openai/gpt-4o") == "azure.ai.openai"
    assert provider_of("gateway.internal", "gpt-4o", "openai/gpt-4o") == "openai"
    assert provider_of("gateway.internal", "gpt-4o", None) is None
    assert provider_of("router.huggingface.co", "gpt-oss-120b") is None
