"""A few-shot prompt: examples with answers, then a question without."""


def few_shot_prompt(task: str, examples: list[tuple[str, str]], question: str, count: int) -> str:
    """Write what a model reads before it answers (Brown et al. 2020, section 2 and figure 2.1).

    The parts, in this order, with one blank line between each two ("\\n\\n") and nothing after the last:

        the task, unless it is the empty string
        for each of `count` examples    Question: <its question>
                                        Answer: <its answer>
        last                            Question: <the question>
                                        Answer:

    The second line of a part follows the first at once ("\\n"). There is one space after `Question:`, and after
    `Answer:` where an answer follows. The prompt ends with the colon: the space is part of what the model is to write.

    Args:
        task: what is to be done, in words.
        examples: questions and answers, in the order in which they are to stand. The question that is asked may be
            among them, which would give its answer away: an example is left out where its question is the one asked,
            up to capitals and blanks at either end. Another stands in its place, as long as there is one.
        question: what is asked.
        count: how many examples; the first ones that may stand. Fewer where there are not as many. 0 is zero-shot.

    Returns:
        The prompt, with questions and answers written just as they are given.
    """
    raise NotImplementedError
