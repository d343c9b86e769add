"""An MLServer runtime: one frame in, probabilities out; as its documentation has them written."""

import joblib
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, PandasCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Churn(MLModel):  # type: ignore[misc]  # it ships no types here
    """Serves one pipeline."""

    async def load(self) -> bool:
        """Read the pipeline that the settings name."""
        self.pipeline = joblib.load(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Return probabilities."""
        frame = PandasCodec.decode_request(payload)
        output = NumpyCodec.encode_output("probabilities", self.pipeline.predict_proba(frame))
        return InferenceResponse(model_name=self.name, outputs=[output])
