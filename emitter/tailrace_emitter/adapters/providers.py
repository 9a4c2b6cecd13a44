"""The provider behind an address, by OpenTelemetry's names: from the host, else from the model's name."""

import re
from typing import Any, Optional

_HOSTS = (
    ("openai.azure.com", "azure.ai.openai"),
    ("cognitiveservices.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("api.openai.com", "openai"),
    ("api.anthropic.com", "anthropic"),
    ("amazonaws.com", "aws.bedrock"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("api.groq.com", "groq"),
    ("api.deepseek.com", "deepseek"),
    ("api.x.ai", "x_ai"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.moonshot.ai", "moonshot_ai"),
    ("api.moonshot.cn", "moonshot_ai"),
    ("api.cohere.com", "cohere"),
    ("api.cohere.ai", "cohere"),
    ("api.cerebras.ai", "cerebras"),
    ("api.together.xyz", "together_ai"),
    ("api.together.ai", "together_ai"),
    ("api.fireworks.ai", "fireworks_ai"),
    ("openrouter.ai", "openrouter"),
    ("ollama.com", "ollama"),
    ("api.z.ai", "zai"),
    ("azure-api.net", "azure.ai.openai"),
    ("api.arcee.ai", "arcee"),
    ("api.avian.io", "avian"),
    ("inference.baseten.co", "baseten"),
    ("api.cloudflare.com", "cloudflare"),
    ("api.cursor.com", "cursor"),
    ("cloud.databricks.com", "databricks"),
    ("azuredatabricks.net", "databricks"),
    ("gcp.databricks.com", "databricks"),
    ("api.doubleword.ai", "doubleword"),
    ("elevenlabs.io", "elevenlabs"),
    ("api.githubcopilot.com", "github-copilot"),
    ("api.meta.ai", "meta"),
    ("api.minimax.io", "minimax"),
    ("api.minimax.com", "minimax"),
    ("api.minimaxi.com", "minimax"),
    ("modal.run", "modal"),
    ("modal.direct", "modal"),
    ("api.novita.ai", "novita"),
    ("oai.endpoints.kepler.ai.cloud.ovh.net", "ovhcloud"),
    ("api.quicksilverpro.io", "quicksilverpro"),
    ("api.typesafe.ai", "typesafe"),
    ("api.voyageai.com", "voyageai"),
    ("open.bigmodel.cn", "zhipuai"),
)
"""Host, or the end of it -> provider: OpenTelemetry's name where it has one, else that of genai-prices. The router of
Hugging Face is none: which provider answers is in the path."""
_PREFIXES = {
    "anthropic": "anthropic",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "groq": "groq",
    "openai": "openai",
    "vertex_ai": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""What gateways put before a model's name, with a slash."""
_BEDROCK = re.compile(r"(arn:aws:bedrock:|(?:[a-z]{2,6}\.)?(?:anthropic|amazon|meta|mistral|cohere|ai21)\.[a-z0-9])")
_REGIONAL = re.compile(r"^[a-z0-9-]+-(?=aiplatform\.googleapis\.com$)")
"""What Vertex AI puts before its host: a region."""


def provider_of(host: str, *models: Any) -> Optional[str]:
    """Return the provider: from the host, else from the prefix of a model's name; None where neither names it.

    Args:
        host: that was asked.
        models: names, the one in the response before the one in the request.
    """
    host = host.lower().rstrip(".")
    regional = _REGIONAL.sub("", host)
    found = next((name for part, name in _HOSTS if regional == part or regional.endswith(f".{part}")), None)
    if found is not None:
        return found
    named = [m.lower() for m in models if isinstance(m, str)]
    for model in named:
        prefix, slash, _ = model.partition("/")
        if slash and prefix in _PREFIXES:
            return _PREFIXES[prefix]
    return "aws.bedrock" if any(_BEDROCK.match(model) for model in named) else None
