using System.Diagnostics;
using System.Globalization;
using KvNode.Raft;

namespace KvNode.Simulation;

/// <summary>
/// Long runs by hand:
/// <code>
/// --seeds A..B    all of them, on all processors; the first failure of each kind is printed
/// --seed N        one, with a trace to standard output, made as small as it still fails
/// --steps N       events of each run before everything is healed (10000)
/// --bug NAME      with a planted bug
/// --quick         with --seed: no trace and no shrinking
/// </code>
/// </summary>
internal static class SimulationConsole
{
    public const long StepsDefault = 10_000;

    public static bool Wants(string[] arguments) => Array.Exists(arguments, static word => word is "--seed" or "--seeds");

    public static int Run(string[] arguments)
    {
        var steps = long.Parse(Value(arguments, "--steps") ?? $"{StepsDefault}", CultureInfo.InvariantCulture);
        if (Value(arguments, "--bug") is { } bug)
        {
            Planted.Bug = Enum.Parse<Bug>(bug, ignoreCase: true);
        }

        if (Value(arguments, "--seed") is { } seed)
        {
            return RunOne(ulong.Parse(seed, CultureInfo.InvariantCulture), steps, Array.Exists(arguments, static word => word == "--quick"));
        }

        var range = Value(arguments, "--seeds")!.Split("..");
        return RunMany(ulong.Parse(range[0], CultureInfo.InvariantCulture), ulong.Parse(range[^1], CultureInfo.InvariantCulture), steps);
    }

    private static string? Value(string[] arguments, string name)
    {
        var at = Array.IndexOf(arguments, name);
        return at >= 0 && at + 1 < arguments.Length ? arguments[at + 1] : null;
    }

    private static int RunMany(ulong first, ulong last, long steps)
    {
        var clock = Stopwatch.StartNew();
        var used = Environment.CpuUsage.TotalTime;
        var batch = SeedRange.Run(first, last, steps, failuresMax: int.MaxValue);
        var seconds = clock.Elapsed.TotalSeconds;
        Console.WriteLine($"{last - first + 1} seeds, {batch.Steps} steps in {seconds:F1} s, {batch.Steps / seconds:F0} steps/s, "
            + $"{batch.Steps / (Environment.CpuUsage.TotalTime - used).TotalSeconds:F0} for each second of a processor: {batch.Counts}");
        var kinds = new Dictionary<string, int>();
        foreach (var failure in batch.Failures)
        {
            kinds[failure.Check!] = kinds.GetValueOrDefault(failure.Check!) + 1;
            if (kinds[failure.Check!] <= 3)
            {
                Console.WriteLine($"seed {failure.Seed}, step {failure.Steps}: {failure.Check}: {failure.Message}");
            }
        }

        foreach (var (check, count) in kinds)
        {
            Console.WriteLine($"{check}: {count} seeds");
        }

        return batch.Failures.Count == 0 ? 0 : 1;
    }

    private static int RunOne(ulong seed, long steps, bool quick)
    {
        var outcome = Simulation.Run(seed, steps);
        Console.WriteLine($"seed {seed}: {outcome.Steps} steps, digest {outcome.Digest:x16}: {outcome.Counts}");
        if (outcome.IsOk)
        {
            Console.WriteLine("all held");
            return 0;
        }

        var faults = Faults.All;
        if (!quick)
        {
            (faults, steps) = Shrinker.Shrink(outcome, steps);
            outcome = Simulation.Run(seed, steps, faults, Console.WriteLine);
        }

        Console.WriteLine($"faults {new Swarm(seed, faults).Faults}, steps {steps}: {outcome.Check}: {outcome.Message}");
        return 1;
    }
}

/// <summary>Makes a failing run smaller.</summary>
internal static class Shrinker
{
    /// <summary>Without each kind of fault that it does not need, and with as few steps as it needs.</summary>
    public static (Faults Faults, long Steps) Shrink(Outcome failure, long steps)
    {
        var faults = Faults.All;
        var best = failure;
        for (var fault = 1; fault <= (int)Faults.Compaction; fault <<= 1)
        {
            var fewer = faults & ~(Faults)fault;
            var outcome = Simulation.Run(failure.Seed, steps, fewer);
            if (outcome.Check == failure.Check)
            {
                (faults, best) = (fewer, outcome);
            }
        }

        // What fails in the storm fails at the same step whatever would come after it.
        steps = Math.Min(steps, best.Steps);
        for (var part = steps / 2; part >= 8; part /= 2)
        {
            while (steps > part && Simulation.Run(failure.Seed, steps - part, faults).Check == failure.Check)
            {
                steps -= part;
            }
        }

        return (faults, steps);
    }
}

/// <summary>Many seeds on all processors.</summary>
internal static class SeedRange
{
    internal sealed record Batch(long Steps, Counts Counts, List<Outcome> Failures, ulong Ran);

    /// <param name="failuresMax">Stops early when there are as many.</param>
    public static Batch Run(ulong first, ulong last, long steps, int failuresMax)
    {
        var gate = new Lock();
        var total = 0L;
        var ran = 0UL;
        var counts = new Counts();
        var failures = new List<Outcome>();
        var next = first;
        var threads = new Thread[Environment.ProcessorCount];
        for (var i = 0; i < threads.Length; i++)
        {
            threads[i] = new Thread(Work);
            threads[i].Start();
        }

        foreach (var thread in threads)
        {
            thread.Join();
        }

        failures.Sort(static (left, right) => left.Seed.CompareTo(right.Seed));
        return new Batch(total, counts, failures, ran);

        void Work()
        {
            while (true)
            {
                ulong seed;
                lock (gate)
                {
                    if (next > last || failures.Count >= failuresMax)
                    {
                        return;
                    }

                    seed = next++;
                }

                var outcome = Simulation.Run(seed, steps);
                lock (gate)
                {
                    ran++;
                    total += outcome.Steps;
                    counts.Add(outcome.Counts);
                    if (!outcome.IsOk)
                    {
                        failures.Add(outcome);
                    }
                }
            }
        }
    }
}
