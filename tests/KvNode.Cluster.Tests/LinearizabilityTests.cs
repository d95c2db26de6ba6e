using System.Diagnostics;
using KvNode.Testing;
using KvNode.Testing.Linearizability;

namespace KvNode.Cluster.Tests;

/// <summary>The judge judged.</summary>
public sealed class LinearizabilityTests
{
    [Fact]
    public void CheckerAgreesWithTryingEveryOrder()
    {
        Seeds.Run(nameof(CheckerAgreesWithTryingEveryOrder), random =>
        {
            var (rounds, wrong) = (1500, 0);
            for (var round = 0; round < rounds; round++)
            {
                // Pipelines are one key's only: the checker keeps a client's order within keys tied together, not across.
                var depth = random.Next(1, 3);
                var shape = new HistoryShape
                {
                    Clients = random.Next(1, 5),
                    Operations = random.Next(2, 7),
                    KeysPerGroup = depth > 1 ? 1 : random.Next(1, 4),
                    Groups = depth > 1 ? 1 : random.Next(1, 3),
                    MultiKeyPercent = random.Next(0, 90),
                    UnknownPercent = random.Next(0, 50),
                    HasSizes = random.Next(4) == 0,
                    FewValues = random.Next(2) == 0 ? random.Next(1, 4) : null,
                    Depth = depth,
                    Bug = (PlantedBug)random.Next(Enum.GetValues<PlantedBug>().Length),
                    BugPercent = 60,
                };
                var history = Disturb(RandomHistory.Make(shape, random).Operations, random);
                var expected = BruteForce.HasOrder(history);
                var result = LinearizabilityChecker.Check(history);
                Assert.True(
                    result.Verdict == (expected ? Verdict.Linearizable : Verdict.Violation),
                    $"round {round}: {result.Verdict} of\n{Print(history)}\n{result.Explanation}");
                wrong += expected ? 0 : 1;
                AssertCulpritsContradictEachOther(history, result);
            }

            // Both answers were asked for often enough to mean something.
            Assert.InRange(wrong, rounds / 20, rounds * 9 / 10);
        });
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void HistoriesOfACorrectServerAreAccepted(int depth)
    {
        Seeds.Run($"{nameof(HistoriesOfACorrectServerAreAccepted)}({depth})", random =>
        {
            for (var round = 0; round < 60; round++)
            {
                var shape = new HistoryShape { Clients = 6, Operations = 400, Groups = 3, HasSizes = round % 10 == 0, Depth = depth };
                var result = LinearizabilityChecker.Check(RandomHistory.Make(shape, random).Operations);
                Assert.True(result.Verdict == Verdict.Linearizable, $"round {round}: {result.Explanation}");
            }
        });
    }

    [Theory]
    [InlineData(nameof(PlantedBug.StaleRead))]
    [InlineData(nameof(PlantedBug.LostUpdate))]
    [InlineData(nameof(PlantedBug.TornMultiSet))]
    [InlineData(nameof(PlantedBug.ResurrectedDelete))]
    [InlineData(nameof(PlantedBug.Reordered))]
    [InlineData(nameof(PlantedBug.DeletedTwice))]
    [InlineData(nameof(PlantedBug.CountedTwice))]
    [InlineData(nameof(PlantedBug.TornRange))]
    [InlineData(nameof(PlantedBug.OvertakingRead))]
    public void PlantedBugIsFound(string name)
    {
        var bug = Enum.Parse<PlantedBug>(name);
        Seeds.Run($"{nameof(PlantedBugIsFound)}({name})", random =>
        {
            var (struck, found) = (0, 0);
            var example = "";
            for (var round = 0; round < 40; round++)
            {
                var shape = new HistoryShape
                {
                    Clients = 5,
                    Operations = 300,
                    Groups = 2,
                    Bug = bug,
                    BugPercent = 30,
                    Depth = bug == PlantedBug.OvertakingRead ? 4 : 1,
                };
                var made = RandomHistory.Make(shape, random);
                var result = LinearizabilityChecker.Check(made.Operations, new CheckLimits { ExplanationStepsMax = 500_000 });
                struck += made.Strikes > 0 ? 1 : 0;
                found += result.Verdict == Verdict.Violation ? 1 : 0;
                example = result.Verdict == Verdict.Violation ? result.Explanation : example;
            }

            Console.WriteLine($"{name}: {found} of {struck} histories\n{example}");
            // Some strikes nobody can have noticed: a value replaced before it was read, a key deleted before it came back.
            Assert.True(struck >= 8, $"the bug struck in {struck} histories only");
            Assert.True(found >= struck / 3, $"found in {found} of {struck} histories");
        });
    }

    [Fact]
    public void TenThousandOperationsOfSixteenClientsAreCheckedInTwoSeconds()
    {
        var random = new Random(7);
        HistoryShape[] shapes =
        [
            new() { Clients = 16, Operations = 10_000, Groups = 300, KeysPerGroup = 1, MultiKeyPercent = 0, UnknownPercent = 1 },
            new() { Clients = 16, Operations = 10_000, Groups = 40, KeysPerGroup = 5, MultiKeyPercent = 30, UnknownPercent = 1 },
            new() { Clients = 16, Operations = 10_000, Groups = 1, KeysPerGroup = 1, MultiKeyPercent = 0, UnknownPercent = 0 },
        ];
        var histories = shapes.Select(shape => RandomHistory.Make(shape, random).Operations).ToArray();
        _ = LinearizabilityChecker.Check(histories[0]); // compiles the code
        foreach (var history in histories)
        {
            // Processor time: the machine may be busy with other things.
            var before = Process.GetCurrentProcess().TotalProcessorTime;
            var result = LinearizabilityChecker.Check(history);
            var taken = Process.GetCurrentProcess().TotalProcessorTime - before;
            Console.WriteLine($"{history.Count} operations: {taken.TotalMilliseconds} ms, {result.Configurations} configurations");
            Assert.True(result.Verdict == Verdict.Linearizable, result.Explanation);
            Assert.True(taken < TimeSpan.FromSeconds(2), $"{taken.TotalMilliseconds} ms");
        }
    }

    [Fact]
    public void SearchWithoutEndSaysThatItIsUndecided()
    {
        // Writes at once of values that are not unique, and two reads that no order of them can satisfy in turn.
        List<Operation> history = [.. Enumerable.Range(0, 8).Select(static client => Operation.Set(client, 1, "k", $"v{client % 2}").Done(100))];
        history.Add(Operation.Get(51, 101, "k").Returned(110, "v0"));
        history.Add(Operation.Get(52, 111, "k").Returned(120, "v1"));
        var result = LinearizabilityChecker.Check(history, new CheckLimits { ConfigurationsMax = 50 });
        Assert.Equal(Verdict.Undecided, result.Verdict);
        Assert.StartsWith("undecided: 10 operations on 1 keys", result.Explanation, StringComparison.Ordinal);
        Assert.Equal(Verdict.Violation, LinearizabilityChecker.Check(history).Verdict);
    }

    [Fact]
    public void UnknownOutcomeMayHappenLateOrNeverButNotTwice()
    {
        List<Operation> history =
        [
            Operation.Set(1, 1, "k", "a").Done(2),
            Operation.Delete(2, 3, "k"),
            Operation.Get(1, 4, "k").Returned(5, "a"),
        ];
        Assert.Equal(Verdict.Linearizable, LinearizabilityChecker.Check(history).Verdict);
        history.Add(Operation.Get(1, 10, "k").Returned(11, [null]));
        Assert.Equal(Verdict.Linearizable, LinearizabilityChecker.Check(history).Verdict);
        history.Add(Operation.Set(1, 12, "k", "b").Done(13));
        history.Add(Operation.Delete(1, 14, "k").Counted(15, 0));
        var result = LinearizabilityChecker.Check(history);
        Assert.Equal(Verdict.Violation, result.Verdict);
        Assert.Contains("DEL k -> 0", result.Explanation, StringComparison.Ordinal);
        Assert.Contains("[3 .. ?] DEL k -> ?", result.Explanation, StringComparison.Ordinal);
    }

    [Fact]
    public void ExplanationNamesOnlyTheOperationsThatContradictEachOther()
    {
        var random = new Random(11);
        var shape = new HistoryShape { Clients = 5, Operations = 1500, Groups = 1, KeysPerGroup = 6, UnknownPercent = 0 };
        List<Operation> history = [.. RandomHistory.Make(shape, random).Operations];
        var at = history.Max(static operation => operation.IsKnown ? operation.ReturnedAt : operation.CalledAt) + 10;
        history.Add(Operation.Set(70, at, "g0:3", "new").Done(at + 1));
        history.Add(Operation.Set(71, at + 2, "g0:3", "newer").Done(at + 3));
        history.Add(Operation.Get(72, at + 4, "g0:3").Returned(at + 5, "new"));
        var result = LinearizabilityChecker.Check(history);
        Assert.Equal(Verdict.Violation, result.Verdict);
        Assert.Equal([70, 71, 72], result.Culprits.Select(static operation => operation.Client));
        Assert.Contains("SET g0:3 newer -> OK", result.Explanation, StringComparison.Ordinal);
        Assert.Contains("GET g0:3 -> new", result.Explanation, StringComparison.Ordinal);
        Assert.Contains("SET g0:3 new -> OK", result.Explanation, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("b a", "has no place")]
    [InlineData("a a", "has no place")]
    [InlineData("a c", "has no place")]
    [InlineData("a b x", "has no place")]
    public void RangeThatNoMapCanReturnIsRefusedAtOnce(string found, string reason)
    {
        Operation[] history =
        [
            Operation.MultiSet(1, 1, ["a", "b"], ["1", "2"]).Done(2),
            Operation.Range(1, 3, "").Returned(4, found.Split(' ')),
        ];
        var result = LinearizabilityChecker.Check(history);
        Assert.Equal(Verdict.Violation, result.Verdict);
        Assert.Contains(reason, result.Explanation, StringComparison.Ordinal);
    }

    [Fact]
    public void ValueFromNowhereIsRefusedAtOnce()
    {
        var result = LinearizabilityChecker.Check([Operation.Get(1, 1, "k").Returned(2, "ghost")]);
        Assert.Equal(Verdict.Violation, result.Verdict);
        Assert.Contains("nobody ever wrote the value 'ghost' to k", result.Explanation, StringComparison.Ordinal);
    }

    /// <summary>A result changed or an interval moved, so that not only the planted bugs are seen.</summary>
    private static List<Operation> Disturb(IReadOnlyList<Operation> history, Random random)
    {
        List<Operation> disturbed = [.. history];
        var victim = disturbed[random.Next(disturbed.Count)];
        switch (random.Next(4))
        {
            case 0 when victim.Kind is OperationKind.Delete or OperationKind.Size && victim.IsKnown:
                _ = victim.Counted(victim.ReturnedAt, random.Next(0, 3));
                break;
            case 1 when victim.Kind == OperationKind.Get && victim.IsKnown:
                _ = victim.Returned(victim.ReturnedAt, $"v{random.Next(3)}");
                break;
            case 3 when victim.Kind is OperationKind.Range && victim.IsKnown && victim.Found.Length > 0 && !victim.Options.WithValues:
                _ = victim.Returned(victim.ReturnedAt, victim.Found[1..]);
                break;
            case 2 when victim.IsKnown:
                _ = victim.Done(Math.Max(victim.CalledAt, victim.ReturnedAt - random.Next(1, 6)));
                break;
            default:
                break;
        }

        return disturbed;
    }

    /// <summary>An explanation must itself be a violation: its operations' results, everything else forgotten.</summary>
    private static void AssertCulpritsContradictEachOther(IReadOnlyList<Operation> history, CheckResult result)
    {
        if (result.Verdict != Verdict.Violation)
        {
            Assert.Empty(result.Culprits);
            return;
        }

        Assert.NotEmpty(result.Culprits);
        Operation[] rest = [.. history.Select(operation => result.Culprits.Contains(operation) ? operation : Forget(operation))];
        Assert.True(
            LinearizabilityChecker.Check(rest).Verdict == Verdict.Violation,
            $"the explanation explains nothing:\n{result.Explanation}\nof\n{Print(history)}");

        static Operation Forget(Operation operation) => new()
        {
            Client = operation.Client,
            Kind = operation.Kind,
            Keys = operation.Keys,
            Values = operation.Values,
            Options = operation.Options,
            CalledAt = operation.CalledAt,
        };
    }

    private static string Print(IEnumerable<Operation> history) =>
        string.Join('\n', history.Select(static o => $"{o.Client} [{o.CalledAt}..{(o.IsKnown ? $"{o.ReturnedAt}" : "?")}] {o}"));
}
