// What MLflow's pages begin with, where nobody has chosen otherwise: models, no assistant, no telemetry.
var beginnings = {
  'mlflow.workflowType_v1': 'machine_learning',
  'mlflow.assistant.fab.autoOpenedOnFirstLoad_v1': true,
  'mlflow.settings.telemetry.enabled_v1': false,
  'mlflow.telemetry.info.alert.dismissed_v1': true
};
Object.keys(beginnings).forEach(function (name) {
  if (localStorage.getItem(name) === null) localStorage.setItem(name, JSON.stringify(beginnings[name]));
});
