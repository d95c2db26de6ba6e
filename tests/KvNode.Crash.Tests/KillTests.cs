using System.Diagnostics;
using KvNode.Testing;

namespace KvNode.Crash.Tests;

/// <summary>kill -9 under load: every answered write survives whole, nothing unanswered appears half.</summary>
public sealed class KillTests : IDisposable
{
    private readonly TempDirectory _directory = new("kill");

    private string Data => _directory.Sub("data");

    public void Dispose() => _directory.Dispose();

    [Theory]
    [InlineData("high", 25)]
    [InlineData("medium", 8)]
    [InlineData("low", 8)]
    public void EveryAnsweredWriteSurvivesKill9Whole(string durability, int seconds) =>
        KillLoop(durability, Soak.Time(TimeSpan.FromSeconds(seconds)));

    [Fact]
    public void GroupsWrittenByManyConnectionsAreNeverTornNorTurnedBack()
    {
        Seeds.Run(nameof(GroupsWrittenByManyConnectionsAreNeverTornNorTurnedBack), random =>
        {
            var clock = Stopwatch.StartNew();
            var time = Soak.Time(TimeSpan.FromSeconds(10));
            using var node = new NodeSlot(StartSmall("high"));
            for (var round = 0; clock.Elapsed < time; round++)
            {
                var group = new SharedGroup(writers: 5);
                group.Start(node.Current.Port);
                var target = random.Next(50, 3000);
                Waiting.Until(() => group.Answered >= target || group.Failure is not null, "the group makes no progress");
                node.Current.Kill9();
                group.Join();
                node.Replace(node.Current.Restart());
                group.Verify(node.Current.Port);
            }
        });
    }

    [Fact]
    public void KillDuringRecoveryLosesNothing()
    {
        Seeds.Run(nameof(KillDuringRecoveryLosesNothing), random =>
        {
            var load = new WriteLoad(6, random);
            using var node = new NodeSlot(StartSmall("high"));
            load.Start(node.Current.Port);
            Waiting.ForAnswers(load, 15_000, node.Current);
            node.Current.Kill9();
            load.Join();
            for (var i = 0; i < 8; i++)
            {
                var starting = NodeProcess.Spawn(node.Current.Options, Ports.Free());
                // Somewhere between exec and serving: that is the moment meant, so time it is.
                Thread.Sleep(random.Next(30, 400));
                starting.Kill9();
                node.Replace(starting);
            }

            node.Replace(node.Current.Restart());
            Assert.True(load.Verify(node.Current.Port) >= 15_000);
        });
    }

    private void KillLoop(string durability, TimeSpan time)
    {
        Seeds.Run($"{nameof(EveryAnsweredWriteSurvivesKill9Whole)}({durability})", random =>
        {
            var clock = Stopwatch.StartNew();
            var load = new WriteLoad(8, random);
            using var node = new NodeSlot(StartSmall(durability));
            var (rounds, done) = (0, 0);
            for (; clock.Elapsed < time; rounds++)
            {
                using var admin = node.Current.Connect(TimeSpan.FromSeconds(60));
                load.Start(node.Current.Port);
                Waiting.ForAnswers(load, random.Next(20, 6000), node.Current);
                if (random.Next(3) == 0)
                {
                    // Under way when the kill comes.
                    admin.Send(random.Next(2) == 0 ? "RAFTSNAPSHOT" : "RAFTSHRINKLOG");
                    admin.Flush();
                }

                Waiting.ForAnswers(load, random.Next(1, 200), node.Current);
                node.Current.Kill9();
                load.Join();
                node.Replace(node.Current.Restart());
                done += VerifyOrKeep(load, node.Current, rounds);
            }

            Console.WriteLine($"kill -9 with durability {durability}: {rounds} rounds, {done} writes");
            Assert.True(rounds >= 3, $"only {rounds} rounds in {time.TotalSeconds} s");
        });
    }

    /// <summary>A failure keeps the directory and what the restarted node said.</summary>
    private int VerifyOrKeep(WriteLoad load, NodeProcess node, int round)
    {
        try
        {
            return load.Verify(node.Port);
        }
        catch (HistoryViolationException failure)
        {
            var kept = $"{Path.TrimEndingDirectorySeparator(_directory.Path)}-kept";
            node.FreezeAndKill9();
            Directory.Move(Data, kept);
            throw new HistoryViolationException($"round {round}, kept in {kept}: {failure.Message}\n{node.ErrorText}");
        }
    }

    /// <summary>Small segments and a small buffer, so that flushing and recycling are under way at each kill.</summary>
    private NodeProcess StartSmall(string durability) =>
        NodeProcess.Start(Data, "--durability", durability, "--wal-segment-size", "1mb", "--write-buffer", "1mb");
}
