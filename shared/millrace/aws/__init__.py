"""The only package that talks to AWS: S3, DynamoDB, Step Functions."""
