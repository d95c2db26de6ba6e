namespace KvNode.Testing.Linearizability;

/// <summary>
/// Decides whether a history could have come from one map that executed each operation at one moment between its call
/// and its return. The map is empty at first.
/// </summary>
/// <remarks>
/// Pure: no clock, no thread, no randomness; the same history gives the same result. The cost is exponential in the
/// worst case and close to linear in the usual one, which tests can help: write values that are unique per key, spread
/// the load over many keys, start over with fresh keys every few thousand operations, keep a KEYS or PDEL prefix and
/// the keys of one MSET or MGET to few keys.
/// </remarks>
public static class LinearizabilityChecker
{
    private const int QuickStepsPerOperation = 200;

    /// <param name="history">
    /// Every operation that was executed or may have been. Those of one client in the order in which it sent them, in
    /// which they must also take effect, when several were in flight at once too.
    /// </param>
    public static CheckResult Check(IReadOnlyList<Operation> history, CheckLimits? limits = null)
    {
        limits ??= new CheckLimits();
        List<StepGroup> groups;
        try
        {
            groups = HistoryCompiler.Compile(history);
        }
        catch (ImpossibleResultException impossible)
        {
            return ViolationExplainer.Explain(impossible);
        }

        var configurations = 0L;
        StepGroup? undecided = null;
        foreach (var group in groups)
        {
            var (verdict, cost) = Decide(group, limits);
            configurations += cost;
            if (verdict == Verdict.Violation)
            {
                return ViolationExplainer.Explain(group, limits, configurations);
            }

            undecided = verdict == Verdict.Undecided ? group : undecided;
        }

        return undecided is null
            ? new CheckResult(Verdict.Linearizable, "", [], configurations)
            : new CheckResult(Verdict.Undecided, Excuse(undecided, limits), [], configurations);
    }

    /// <summary>
    /// An order that exists is mostly found at once. Where it is not, most violations show in one of the keys alone, which is
    /// a much smaller question than all of them together.
    /// </summary>
    private static (Verdict Verdict, long Configurations) Decide(StepGroup group, CheckLimits limits)
    {
        var quick = limits with { StepsMax = Math.Min(limits.StepsMax, QuickStepsPerOperation * group.Steps.Count) };
        var first = new LinearizationSearch(group, quick);
        var verdict = first.Run();
        if (verdict != Verdict.Undecided || limits.StepsMax == quick.StepsMax)
        {
            return (verdict, first.Configurations);
        }

        Operation[] operations = [.. group.Steps.Select(static step => step.Operation)];
        if (group.Keys.Length > 1 && Array.Exists(group.Keys, key => ViolationExplainer.IsImpossible(operations, key, quick, out _)))
        {
            return (Verdict.Violation, first.Configurations);
        }

        var search = new LinearizationSearch(group, limits);
        return (search.Run(), first.Configurations + search.Configurations);
    }

    private static string Excuse(StepGroup group, CheckLimits limits)
    {
        var unknown = group.Steps.Count(static step => step.ReturnedAt == Operation.Never);
        return $"undecided: {group.Steps.Count} operations on {group.Keys.Length} keys tied together, {unknown} of unknown outcome, are too many " +
            $"for {limits.ConfigurationsMax} configurations and {limits.StepsMax} steps; one key is {group.Keys[0]}";
    }
}
