"""The keys of the checkpoints of our tasks."""

# Lightning's own: the weights, the arguments of the task, and in these its class and how to build it.
STATE_KEY = "state_dict"
ARGUMENTS_KEY = "hyper_parameters"
CLASS_KEY = "_class_path"
INSTANTIATOR_KEY = "_instantiator"
# The state of the optimizers, and the weights in training where STATE_KEY holds their average.
OPTIMIZER_STATES_KEY = "optimizer_states"
TRAINING_STATE_KEY = "current_model_state"
STEP_KEY = "global_step"

# The data module that the task was trained with, as {"class_path", "init_args"}.
DATA_KEY = "softformer_data"
# The processor of a task that does not take it as an argument, in the same form.
PROCESSOR_KEY = "softformer_processor"
# What version 0.1 stored in the place of a processor.
INPUT_SETTINGS_KEY = "input_settings"
# The arguments of the OptimizerSpec.
OPTIMIZER_KEY = "softformer_optimizer"
# The seed of the run.
SEED_KEY = "softformer_seed"
