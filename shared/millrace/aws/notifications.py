"""Messages to people through an SNS topic."""

from typing import TYPE_CHECKING

from millrace.aws.errors import aws_errors

if TYPE_CHECKING:
    from mypy_boto3_sns import SNSClient

#: What SNS takes of a subject, and of a message with room to spare.
_MAX_SUBJECT = 100
_MAX_TEXT = 60_000


class TopicNotifier:
    """Implements :class:`millrace.ports.Notifier`.

    Parameters
    ----------
    client : SNSClient
        Built by :mod:`millrace.aws.clients`.
    topic_arn : str
        Who subscribes to it is told.
    """

    def __init__(self, client: "SNSClient", topic_arn: str) -> None:
        self._client = client
        self._topic_arn = topic_arn

    def notify(self, subject: str, text: str) -> None:
        """Send a message; see :class:`millrace.ports.Notifier`."""
        # SNS takes subjects of one line in printable ASCII only.
        plain = " ".join(subject.encode("ascii", "replace").decode().split())[:_MAX_SUBJECT]
        with aws_errors("SNS"):
            self._client.publish(TopicArn=self._topic_arn, Subject=plain, Message=text[:_MAX_TEXT])
