"""Messages to people, on SNS."""

from typing import TYPE_CHECKING

from millrace.aws.errors import aws_errors

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient


class SnsNotifier:
    """Implements :class:`millrace.ports.Notifier`."""

    def __init__(self, client: "SNSClient", topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    def notify(self, subject: str, message: str) -> None:
        """Send a message; a subject is one line of at most 100 ASCII characters."""
        with aws_errors("SNS"):
            self._client.publish(TopicArn=self._topic_arn, Subject=subject, Message=message)
