"""Messages to people, on SNS."""

from typing import TYPE_CHECKING

from millrace.aws.errors import aws_errors

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

#: What SNS takes of a subject, and of a message with room to spare.
_MAX_SUBJECT = 100
_MAX_MESSAGE = 60_000


class SnsNotifier:
    """Implements :class:`millrace.ports.Notifier`."""

    def __init__(self, client: "SNSClient", topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    def notify(self, subject: str, message: str) -> None:
        """Send a message; of a subject, what SNS takes: one line of at most 100 ASCII characters."""
        plain = " ".join(subject.encode("ascii", "replace").decode().split())[:_MAX_SUBJECT]
        with aws_errors("SNS"):
            self._client.publish(TopicArn=self._topic_arn, Subject=plain, Message=message[:_MAX_MESSAGE])
