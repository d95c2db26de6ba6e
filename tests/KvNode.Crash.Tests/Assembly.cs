global using Xunit;

// One node at a time: the tests count on having the machine for themselves.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
[assembly: CaptureConsole]
