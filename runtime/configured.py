"""How an Accelerator was set up, to be read."""

from __future__ import annotations

from .plugins import ProjectConfiguration
from .settings import Settings
from .view import WorldView


class ConfiguredView(WorldView):
    """A view of a world that also shows the settings and the project's folders."""

    _settings: Settings
    _project: ProjectConfiguration

    def _configure(self, settings: Settings, project: ProjectConfiguration) -> Settings:
        self._settings = settings
        self._project = project
        return settings

    @property
    def split_batches(self) -> bool:
        """Whether a loader's batch size is that of all processes together."""
        return self._settings.split_batches

    @property
    def even_batches(self) -> bool:
        """Whether all processes are given equally many batches."""
        return self._settings.even_batches

    @property
    def project_dir(self) -> str | None:
        """The folder of the project's files, if one was named."""
        return None if self._project.project_dir is None else str(self._project.project_dir)

    @property
    def logging_dir(self) -> str | None:
        """The folder of the project's logs, if one was named."""
        return self.project_dir if self._project.logging_dir is None else str(self._project.logging_dir)
