// Says what is wrong with the document whose path is the first argument, by the JSON schema of OpenAPI.
import {Validator} from '@seriousme/openapi-schema-validator';

const validator = new Validator();
const {valid, errors} = await validator.validate(process.argv[2]);
if (!valid || validator.version !== '3.1') {
    console.error(validator.version, JSON.stringify(errors, null, 1));
    process.exit(1);
}
