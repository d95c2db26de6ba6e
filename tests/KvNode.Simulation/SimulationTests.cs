using System.Diagnostics;
using KvNode.Raft;

namespace KvNode.Simulation;

public sealed class SimulationTests
{
    private const int SeedsForBug = 2000;

    /// <summary>Override for a longer run: how many seeds.</summary>
    private const string SeedsVariable = "KVNODE_SIMULATION_SEEDS";

    [Fact]
    public void TwoThousandSeedsHoldAllInvariants()
    {
        var seeds = Environment.GetEnvironmentVariable(SeedsVariable) is { } given
            ? ulong.Parse(given, System.Globalization.CultureInfo.InvariantCulture)
            : 2000;
        var clock = Stopwatch.StartNew();
        var batch = SeedRange.Run(1, seeds, SimulationConsole.StepsDefault, failuresMax: 5);
        var seconds = clock.Elapsed.TotalSeconds;
        Console.WriteLine($"{batch.Ran} seeds, {batch.Steps} steps in {seconds:F1} s, {batch.Steps / seconds:F0} steps/s: {batch.Counts}");
        Assert.True(
            batch.Failures.Count == 0,
            string.Join('\n', batch.Failures.ConvertAll(static failure => $"--seed {failure.Seed}: step {failure.Steps}: {failure.Check}: {failure.Message}")));
        // What never happened was not tested.
        var counts = batch.Counts;
        Assert.All(
            (int[])[counts.Leaders, counts.Crashes, counts.Snapshots, counts.Changes, counts.Transfers, counts.Wipes, counts.Partitions,
                counts.Acknowledged, counts.Unknown, counts.Denied, counts.LocalReads],
            count => Assert.True(count >= (int)(seeds / 20), batch.Counts.ToString()));
        Assert.True(counts.Undecided < (int)seeds / 10, batch.Counts.ToString());
    }

    [Fact]
    public void ASeedGivesTheSameRunTwice()
    {
        for (var seed = 1UL; seed <= 30; seed++)
        {
            var first = Simulation.Run(seed, 5000);
            var second = Simulation.Run(seed, 5000);
            Assert.Equal(first.Digest, second.Digest);
            Assert.Equal(first.Steps, second.Steps);
            Assert.NotEqual(first.Digest, Simulation.Run(seed + 1000, 5000).Digest);
        }
    }

    [Fact]
    public void EveryPlantedBugIsFound()
    {
        var blind = new List<Bug>();
        foreach (var bug in Enum.GetValues<Bug>())
        {
            if (bug == Bug.None)
            {
                continue;
            }

            Planted.Bug = bug;
            try
            {
                var batch = SeedRange.Run(1, SeedsForBug, SimulationConsole.StepsDefault, failuresMax: 1);
                if (batch.Failures.Count == 0)
                {
                    blind.Add(bug);
                    Console.WriteLine($"{bug,-26} not found in {batch.Ran} seeds");
                    continue;
                }

                var first = batch.Failures[0];
                Console.WriteLine($"{bug,-26} {batch.Ran,4} seeds, seed {first.Seed}, step {first.Steps}: {first.Check}: {Short(first.Message)}");
            }
            finally
            {
                Planted.Bug = Bug.None;
            }
        }

        Assert.Empty(blind);
    }

    [Fact]
    public void AFailureIsMadeSmaller()
    {
        Planted.Bug = Bug.ReadsWithoutRound;
        try
        {
            var batch = SeedRange.Run(1, SeedsForBug, 5000, failuresMax: 1);
            var failure = batch.Failures[0];
            var (faults, steps) = Shrinker.Shrink(failure, 5000);
            var small = Simulation.Run(failure.Seed, steps, faults);
            Assert.Equal(failure.Check, small.Check);
            Assert.True(steps <= failure.Steps);
            Assert.NotEqual(Faults.All, faults);
        }
        finally
        {
            Planted.Bug = Bug.None;
        }
    }

    private static string Short(string message) => message.Length <= 100 ? message : message[..100];
}
