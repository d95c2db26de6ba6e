using System.Globalization;

namespace KvNode.Testing;

/// <summary>Every random choice of a test comes from one printed number.</summary>
public static class Seeds
{
    /// <summary>Set it to repeat a run: <c>KVNODE_SEED=123 ./test.sh</c>.</summary>
    public const string Variable = "KVNODE_SEED";

    /// <summary>The seed from the environment, else a fresh one; printed either way.</summary>
    public static int Next(string test)
    {
        var given = Environment.GetEnvironmentVariable(Variable);
        var seed = given is null
            ? Random.Shared.Next(1, int.MaxValue)
            : int.Parse(given, NumberStyles.Integer, CultureInfo.InvariantCulture);
        Console.WriteLine($"{test}: {Variable}={seed}");
        return seed;
    }

    /// <summary>Runs a test with a seed; a failure carries the seed in its message.</summary>
    public static void Run(string test, Action<Random> body)
    {
        var seed = Next(test);
        try
        {
            body(new Random(seed));
        }
        catch (Exception failure) when (failure is not TestSkippedException)
        {
            throw new SeededFailureException($"{test} failed with {Variable}={seed}: {failure.Message}", failure);
        }
    }
}

/// <summary>A failed seeded test; the message says how to run it again.</summary>
public sealed class SeededFailureException(string message, Exception cause) : Exception(message, cause);
