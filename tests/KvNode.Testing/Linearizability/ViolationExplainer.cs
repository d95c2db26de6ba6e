using System.Text;

namespace KvNode.Testing.Linearizability;

/// <summary>Makes a violation small enough to look at.</summary>
/// <remarks>
/// First the history is cut at the earliest return that makes it impossible. Then results are forgotten, many at once and
/// then one by one, as long as the rest is still impossible. Forgetting a result makes a history only more permissive, so
/// what remains contradicts itself whatever the forgotten operations did.
/// </remarks>
internal sealed class ViolationExplainer
{
    private const int LinesMax = 40;

    private readonly CheckLimits _limits;
    private Operation[] _operations;
    private Operation[] _originals;
    private long _stepsLeft;
    private string? _only;

    private ViolationExplainer(StepGroup group, CheckLimits limits)
    {
        // By time; those of one client stay in order.
        _operations = [.. group.Steps.Select(static step => step.Operation).OrderBy(static operation => operation.CalledAt)];
        _originals = _operations;
        _stepsLeft = limits.ExplanationStepsMax;

        // Many searches that may each fail to decide are better than one that uses everything up.
        _limits = limits with { StepsMax = Math.Min(limits.StepsMax, limits.ExplanationStepsMax / 50) };
    }

    public static CheckResult Explain(ImpossibleResultException impossible)
    {
        var text = new StringBuilder($"not linearizable: {impossible.Message}:");
        Print(text, impossible.Operations);
        return new CheckResult(Verdict.Violation, text.ToString(), impossible.Operations, 0);
    }

    public static CheckResult Explain(StepGroup group, CheckLimits limits, long configurations)
    {
        var explainer = new ViolationExplainer(group, limits);
        explainer.KeepToOneKey(group);
        explainer.CutAtEarliestReturn();
        explainer.ForgetTheBeginning();
        explainer.ForgetResults();
        return explainer.Report(group, configurations);
    }

    /// <summary>Where one key alone shows it, everything else goes.</summary>
    private void KeepToOneKey(StepGroup group)
    {
        var key = Array.Find(group.Keys, key => IsImpossible(_operations, key, _limits, out _));
        if (key is null || HistoryCompiler.Compile(_operations, key) is not [var alone])
        {
            return;
        }

        Operation[] narrowed = [.. alone.Steps.Select(step => Narrowed(step, key))];
        if (IsImpossible(narrowed))
        {
            _only = key;
            _operations = narrowed;
            _originals = [.. alone.Steps.Select(static step => step.Operation)];
        }
    }

    /// <summary>The part of a step that concerns the one key, as an operation of its own.</summary>
    private static Operation Narrowed(Step step, string key)
    {
        var whole = step.Operation;
        if (whole.IsDelete)
        {
            // One that found nothing changes nothing, but it does so as a delete: without its count it is one.
            var delete = Operation.Delete(whole.Client, whole.CalledAt, key).Counted(whole.ReturnedAt, Math.Max(0, step.Count));
            return step.Effects.Length > 0 && step.Count < 0 ? delete.Uncounted() : delete;
        }

        if (step.Effects is [.., var (_, written)])
        {
            return Operation.Set(whole.Client, whole.CalledAt, key, $"{written}").Done(whole.ReturnedAt);
        }

        var required = step.Requirements is [var (_, value), ..] ? value : step.Count == 0 ? Step.Absent : Step.Present;
        return required == Step.Present
            ? Operation.Range(whole.Client, whole.CalledAt, key).Returned(whole.ReturnedAt, key)
            : Operation.Get(whole.Client, whole.CalledAt, key).Returned(whole.ReturnedAt, required == Step.Absent ? null : $"{required}");
    }

    private void CutAtEarliestReturn()
    {
        var returns = _operations.Where(static operation => operation.IsKnown).Select(static operation => operation.ReturnedAt)
            .Distinct().Order().ToArray();
        var (possible, impossible) = (-1, returns.Length - 1);
        while (impossible - possible > 1)
        {
            var middle = possible + ((impossible - possible) / 2);
            if (_stepsLeft > 0 && IsImpossible(CutAt(returns[middle])))
            {
                impossible = middle;
            }
            else
            {
                possible = middle;
            }
        }

        _originals = [.. _originals.Where(operation => operation.CalledAt <= returns[impossible])];
        _operations = CutAt(returns[impossible]);
    }

    private Operation[] CutAt(long time) =>
    [
        .. _operations.Where(operation => operation.CalledAt <= time)
            .Select(operation => operation.ReturnedAt <= time ? operation : operation.Forgotten()),
    ];

    /// <summary>Only the results of the last few operations, if they suffice: that is cheap to search.</summary>
    private void ForgetTheBeginning()
    {
        for (var kept = 2; kept < _operations.Length && _stepsLeft > 0; kept *= 2)
        {
            var fewer = WithoutBeginning(_operations.Length - kept);
            if (IsImpossible(fewer))
            {
                _operations = fewer;
                return;
            }
        }
    }

    private Operation[] WithoutBeginning(int count) =>
        [.. _operations.Select((operation, i) => i < count ? operation.Forgotten() : operation)];

    private void ForgetResults()
    {
        // Reads first: without its result a read is nothing at all. Then what deletes counted: where nobody counts, most
        // writes cannot be noticed. A write forgotten is one that may have happened or not, and makes searches longer.
        Forget([.. Numbers(static operation => operation.Values.Length == 0 && !operation.IsDelete)], static operation => operation.Forgotten());
        Forget([.. Numbers(static operation => operation.IsDelete)], static operation => operation.Uncounted());
        Forget([.. Numbers(static operation => operation.Values.Length > 0 || operation.IsDelete)], static operation => operation.Forgotten());
    }

    private IEnumerable<int> Numbers(Func<Operation, bool> which) =>
        Enumerable.Range(0, _operations.Length).Where(i => _operations[i].IsKnown && which(_operations[i]));

    private void Forget(int[] numbers, Func<Operation, Operation> forget)
    {
        for (var size = Math.Max(1, numbers.Length / 2); _stepsLeft > 0; size /= 2)
        {
            for (var from = 0; from < numbers.Length && _stepsLeft > 0; from += size)
            {
                var fewer = (Operation[])_operations.Clone();
                foreach (var number in numbers.AsSpan(from, Math.Min(size, numbers.Length - from)))
                {
                    fewer[number] = forget(fewer[number]);
                }

                _operations = IsImpossible(fewer) ? fewer : _operations;
            }

            if (size <= 1)
            {
                return;
            }
        }
    }

    /// <summary>Whether no order explains the results, of this key alone (null: of all).</summary>
    /// <param name="steps">What it cost.</param>
    internal static bool IsImpossible(Operation[] operations, string? only, CheckLimits limits, out long steps)
    {
        steps = operations.Length; // compiling costs too
        try
        {
            foreach (var group in HistoryCompiler.Compile(operations, only))
            {
                var search = new LinearizationSearch(group, limits);
                var verdict = search.Run();
                steps += search.StepsDone;
                if (verdict == Verdict.Violation)
                {
                    return true;
                }
            }

            return false;
        }
        catch (ImpossibleResultException)
        {
            return true;
        }
    }

    private bool IsImpossible(Operation[] operations)
    {
        var isImpossible = IsImpossible(operations, only: null, _limits, out var steps);
        _stepsLeft -= steps;
        return isImpossible;
    }

    private CheckResult Report(StepGroup group, long configurations)
    {
        var culprits = _originals.Where((_, i) => _operations[i].IsKnown).OrderBy(static operation => operation.CalledAt).ToArray();
        var context = ContextOf(culprits);
        var text = new StringBuilder(
            $"not linearizable: no order explains these {culprits.Length} results " +
            $"(of {group.Steps.Count} operations on {group.Keys.Length} keys tied together)" +
            (_only is null ? ":" : $", of {_only} alone:"));
        Print(text, culprits);
        if (context.Length > 0)
        {
            text.Append("\nwhatever became of these, which wrote what was returned or whose outcome is unknown:");
            Print(text, context);
        }

        return new CheckResult(Verdict.Violation, text.ToString(), culprits, configurations);

        // The originals, with the results that were forgotten for the search.
        Operation[] ContextOf(Operation[] known)
        {
            var values = known.SelectMany(static operation => operation.Found).OfType<string>().ToHashSet(StringComparer.Ordinal);
            var keys = _only is null ? known.SelectMany(static operation => operation.Keys).ToHashSet(StringComparer.Ordinal) : [_only];
            var last = known.Length == 0 ? 0 : known.Max(static operation => operation.ReturnedAt);
            return
            [
                .. group.Steps.Select(static step => step.Operation)
                    .Where(operation => operation.CalledAt <= last && !known.Contains(operation) && (operation.Values.Any(values.Contains) ||
                        (!operation.IsKnown && Touches(operation, keys))))
                    .OrderBy(static operation => operation.CalledAt),
            ];
        }
    }

    private static bool Touches(Operation operation, HashSet<string> keys) => operation.Kind == OperationKind.PatternDelete
        ? keys.Any(key => key.StartsWith(operation.Keys[0], StringComparison.Ordinal))
        : operation.Keys.Any(keys.Contains);

    private static void Print(StringBuilder text, Operation[] operations)
    {
        // The end is where it broke.
        var left = Math.Max(0, operations.Length - LinesMax);
        text.Append(left > 0 ? $"\n  {left} before these, and" : "");
        foreach (var operation in operations.Skip(left))
        {
            var until = operation.IsKnown ? $"{operation.ReturnedAt}" : "?";
            text.Append($"\n  client {operation.Client,-3} [{operation.CalledAt} .. {until}] {operation}");
            text.Append(operation.Where.Length == 0 ? "" : $"   at {operation.Where}");
        }
    }
}
