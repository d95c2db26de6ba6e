global using Xunit;

// One node at a time: the tests measure latency and memory, and two cores are few.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
[assembly: CaptureConsole]
