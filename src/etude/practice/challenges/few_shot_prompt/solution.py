"""A few-shot prompt: examples with answers, then a question without."""


def few_shot_prompt(task: str, examples: list[tuple[str, str]], question: str, count: int) -> str:
    """Return the task, the examples and the question, a blank line between each two."""
    asked = question.strip().casefold()
    others = [(q, a) for q, a in examples if q.strip().casefold() != asked]
    parts = [task] if task else []
    parts += [f"Question: {q}\nAnswer: {a}" for q, a in others[:count]]
    parts.append(f"Question: {question}\nAnswer:")
    return "\n\n".join(parts)
