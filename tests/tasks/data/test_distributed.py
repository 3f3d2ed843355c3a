"""Two processes share the rows, and Lightning leaves our samplers alone."""

import json
from pathlib import Path

from toy_rows import ToyData, ToyNetWithValidation, quiet_trainer

from tasks.data.examples import Batch


class WritingNet(ToyNetWithValidation):
    """Writes down what each process was given."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def predict_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluated += batch["index"].tolist()

    def on_fit_end(self) -> None:
        content = {"trained": [rows for _, rows, _ in self.seen], "validated": self.evaluated}
        (self.folder / f"{self.global_rank}.json").write_text(json.dumps(content))


class PredictedNumbers(ToyData):
    """Predicts on the test split."""

    predict_dataloader = ToyData.test_dataloader


def test_two_processes(tmp_path: Path) -> None:
    trainer = quiet_trainer(devices=2, strategy="ddp_spawn", max_epochs=1)
    trainer.fit(WritingNet(tmp_path), ToyData("numbers", batch_size=3))
    first, second = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    trained = [row for process in (first, second) for batch in process["trained"] for row in batch]
    assert [len(batch) for batch in first["trained"]] == [len(batch) for batch in second["trained"]] == [3] * 3
    assert len(set(trained)) == 18
    assert sorted(first["validated"] + second["validated"]) == list(range(7))


def test_prediction_reads_every_row_in_order() -> None:
    net = WritingNet(Path())
    quiet_trainer().predict(net, PredictedNumbers("numbers", batch_size=3), return_predictions=False)
    assert net.evaluated == list(range(11))
