using KvNode.Testing.Linearizability;

namespace KvNode.Cluster.Tests;

/// <summary>
/// Linearizability by its definition: tries every order, runs it on a sorted map, compares every result. Shares nothing
/// with the checker it judges; for a handful of operations.
/// </summary>
internal static class BruteForce
{
    public static bool HasOrder(IReadOnlyList<Operation> history) =>
        HasOrder([.. history], new SortedDictionary<string, string>(StringComparer.Ordinal));

    private static bool HasOrder(List<Operation> left, SortedDictionary<string, string> map)
    {
        if (left.All(static operation => !operation.IsKnown))
        {
            return true;
        }

        for (var i = 0; i < left.Count; i++)
        {
            var operation = left[i];
            if (left.Any(other => other != operation && other.ReturnedAt < operation.CalledAt) ||
                left.Take(i).Any(other => other.Client == operation.Client && other.IsKnown))
            {
                continue;
            }

            var after = new SortedDictionary<string, string>(map, StringComparer.Ordinal);
            var result = Execute(operation, after);
            if (operation.IsKnown && result != Result(operation))
            {
                continue;
            }

            List<Operation> rest = [.. left];
            rest.RemoveAt(i);
            if (HasOrder(rest, after))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Executes on the map; the result in the words of <see cref="Result"/>.</summary>
    public static string Execute(Operation operation, SortedDictionary<string, string> map)
    {
        switch (operation.Kind)
        {
            case OperationKind.Set or OperationKind.MultiSet:
                for (var i = 0; i < operation.Keys.Length; i++)
                {
                    map[operation.Keys[i]] = operation.Values[i];
                }

                return "OK";
            case OperationKind.Get or OperationKind.MultiGet:
                return string.Join(',', operation.Keys.Select(key => map.GetValueOrDefault(key, "nil")));
            case OperationKind.Delete:
                return $"{operation.Keys.Count(map.Remove)}";
            case OperationKind.PatternDelete:
                return $"{Under(map, operation.Keys[0]).Count(map.Remove)}";
            case OperationKind.Range:
                return string.Join(',', Select(operation, map));
            default:
                return $"{map.Count}";
        }
    }

    public static string Result(Operation operation) => operation.Kind switch
    {
        OperationKind.Set or OperationKind.MultiSet => "OK",
        OperationKind.Delete or OperationKind.PatternDelete or OperationKind.Size => $"{operation.Count}",
        _ => string.Join(',', operation.Found.Select(static value => value ?? "nil")),
    };

    /// <summary>Ends an operation with what the map says, or (a bug) with what it is told to say.</summary>
    public static void Finish(Operation operation, long at, string result)
    {
        _ = operation.Kind switch
        {
            OperationKind.Set or OperationKind.MultiSet => operation.Done(at),
            OperationKind.Delete or OperationKind.PatternDelete or OperationKind.Size => operation.Counted(at, long.Parse(result)),
            _ => operation.Returned(at, result.Length == 0 ? [] : [.. result.Split(',').Select(static word => word == "nil" ? null : word)]),
        };
    }

    private static string[] Under(SortedDictionary<string, string> map, string prefix) =>
        [.. map.Keys.Where(key => key.StartsWith(prefix, StringComparison.Ordinal))];

    private static IEnumerable<string> Select(Operation operation, SortedDictionary<string, string> map)
    {
        var options = operation.Options;
        IEnumerable<string> keys = Under(map, operation.Keys[0]);
        keys = options.Descending ? keys.Reverse() : keys;
        if (options.Pivot is { } pivot)
        {
            keys = keys.Where(key => Math.Sign(string.CompareOrdinal(key, pivot)) == (options.Descending ? -1 : 1));
        }

        keys = keys.Take(options.Limit ?? int.MaxValue);
        return options.WithValues ? keys.SelectMany(key => new[] { key, map[key] }) : keys;
    }
}
