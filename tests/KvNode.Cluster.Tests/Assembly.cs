global using Xunit;

// One cluster at a time: the tests count on having the machine for themselves.
[assembly: CollectionBehavior(DisableTestParallelization = true)]
[assembly: CaptureConsole]
